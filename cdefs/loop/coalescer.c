/* How long audit text gathers before it is read. */
#include <stddef.h>
#include <stdint.h>
#include "loop/coalescer.h"

#define SECOND 1e9

/* The average at `now`: it falls by about e in each window without an event ((1 + x/8)^8 is near to e^x). */
static double rate_at(const struct coalescer *c, int64_t now)
{
    double ago = now > c->last ? (double)(now - c->last) / COALESCE_WINDOW : 0, part = 1 + ago / 8;

    part *= part;
    part *= part;
    return c->rate / (part * part);
}

int64_t coalescer_pause(const struct coalescer *c, int64_t now)
{
    double rate = rate_at(c, now), until_full;
    int64_t wanted = c->fixed;

    if (c->much || !wanted)
        return 0;
    if (wanted < 0 && c->prompt)
        wanted = rate > COALESCE_BUSY ? COALESCE_SHORT : 0;
    else if (wanted < 0)
        wanted = rate * COALESCE_LONG >= COALESCE_FEW * SECOND ? COALESCE_LONG : 0;
    wanted = wanted < c->limit ? wanted : c->limit;
    until_full = rate * (double)wanted > c->most * SECOND ? c->most / rate * SECOND : (double)wanted;
    if (until_full >= (double)wanted)
        return wanted;
    return until_full > COALESCE_LEAST || wanted < COALESCE_LEAST ? (int64_t)until_full : COALESCE_LEAST;
}

int coalescer_expects(const struct coalescer *c, int64_t now, int64_t pause)
{
    return rate_at(c, now) * (double)pause >= COALESCE_FEW * SECOND;
}

void coalescer_note(struct coalescer *c, uint64_t events, int64_t now, uint64_t size)
{
    c->much = size >= COALESCE_MUCH;
    c->rate = rate_at(c, now) + (double)events * (SECOND / COALESCE_WINDOW);
    c->last = now;
}
