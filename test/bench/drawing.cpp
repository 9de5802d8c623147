#include "test/bench/drawing.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace drawing {

namespace {

constexpr int kSide = 28;
constexpr int kLeft = 2; // columns left out at each side: digits keep to the middle
constexpr int kWidth = 12;
constexpr int kHeight = 7;
constexpr int kGap = 1;

// Mean grey value of `rows` x 2 pixels.
int mean(const uint8_t *picture, int row, int column, int rows) {
    int sum = 0;
    for (int y = row; y < row + rows; y++)
        for (int x = column; x < column + 2; x++)
            sum += picture[y * kSide + x];
    return sum / (rows * 2);
}

// One character stands for 4 rows of 2 pixels.
std::string cell(const uint8_t *picture, int row, int column, bool unicode) {
    if (!unicode) {
        constexpr std::string_view kRamp = " .:-=+*#%@";
        return {kRamp[static_cast<size_t>(mean(picture, row, column, 4)) * kRamp.size() / 256]};
    }
    constexpr int kInk = 80;
    bool upper = mean(picture, row, column, 2) > kInk;
    bool lower = mean(picture, row + 2, column, 2) > kInk;
    return upper && lower ? "█" : upper ? "▀" : lower ? "▄" : " ";
}

} // namespace

std::vector<std::string> side_by_side(std::span<const uint8_t *const> pictures,
                                      std::span<const std::string> captions, bool unicode) {
    std::vector<std::string> lines(1);
    for (const std::string &caption : captions) {
        std::string text = caption.substr(0, kWidth);
        lines[0] += text + std::string(kWidth + kGap - text.size(), ' ');
    }
    for (int line = 0; line < kHeight; line++) {
        std::string text;
        for (const uint8_t *picture : pictures) {
            for (int x = 0; x < kWidth; x++)
                text += cell(picture, line * 4, kLeft + x * 2, unicode);
            text += std::string(kGap, ' ');
        }
        lines.push_back(text);
    }
    return lines;
}

bool locale_is_utf8() {
    for (const char *name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const char *value = std::getenv(name);
        if (value == nullptr || *value == '\0')
            continue;
        return strcasestr(value, "utf-8") != nullptr || strcasestr(value, "utf8") != nullptr;
    }
    return false;
}

} // namespace drawing
