// Grey pictures as text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace drawing {

// Lines of text that show the 28 x 28 pictures side by side, each 12 characters wide and 7 high;
// in half blocks if `unicode`, else in ASCII. Each `captions` entry stands above its picture.
std::vector<std::string> side_by_side(std::span<const uint8_t *const> pictures,
                                      std::span<const std::string> captions, bool unicode);

// Whether the environment's locale (LC_ALL, LC_CTYPE, LANG) has UTF-8.
bool locale_is_utf8();

} // namespace drawing
