// What is known of a server from short questions put to it again and again. Pure C++.
//
// Times are microseconds on one clock, 0 is never. A plain struct: it lies in shared memory, and
// its users lock it.
#pragma once

#include <cstdint>

namespace panvel {

enum class Reach { kUnknown, kUp, kDown };

struct Health {
    Reach reach;
    int64_t since;     // when `reach` last changed
    int64_t asked_at;  // the oldest question without an answer was asked then; 0: all are answered
    int64_t looked_at; // and then it was last seen not to be answered
    int64_t silence;   // how long it has been seen so: see look()
    int64_t cost;      // how long the last failed attempt to connect took
};

// A question was sent. It is silence until something comes back.
void asked(Health *health, int64_t now);

// Nothing has come back so far. Where nobody looked for long (the whole machine was stopped, or is
// overloaded) the server is not blamed for it: a gap counts as half a second at most.
void look(Health *health, int64_t now);

// The server said something sensible.
void answered(Health *health, int64_t now);

// The server cannot be used, and that was an answer: refused, reset, starting, no route to it.
// `cost`: how long it took to learn that.
void refused(Health *health, int64_t now, int64_t cost);

// A connection was not made in time. Silence goes on.
void timed_out(Health *health, int64_t now, int64_t cost);

// A server that is silent for `limit` is down.
void note_silence(Health *health, int64_t now, int64_t limit);

// No answer for `limit` or longer.
bool is_silent(const Health &health, int64_t limit);

// Down, and trying would cost time: who knows that does not try. A server that refuses at once
// is better asked, because it may be back already.
bool is_gone(const Health &health, int64_t limit);

} // namespace panvel
