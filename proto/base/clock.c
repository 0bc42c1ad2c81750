/* clock: owns reading clocks and the text form of a time. Promises that what it formats it
 * parses back to the same microsecond, and no use of the process's time zone or locale. Must
 * not know PostgreSQL's epoch. */
#include "proto/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "proto/base/check.h"

static const int64_t us_per_day = INT64_C(86400000000);

static int64_t
now_us(clockid_t id)
{
    struct timespec t;
    CHECK(clock_gettime(id, &t) == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
clock_mono_ms(void)
{
    return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_mono_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

int64_t
clock_wall_us(void)
{
    return now_us(CLOCK_REALTIME);
}

void
clock_sleep_ms(int64_t ms)
{
    if (ms <= 0) {
        return;
    }
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {}
}

/* ---- calendar: proleptic Gregorian, by eras of 400 years that begin on March 1 ---- */

struct date {
    int64_t year;
    int month, day;
};

static int64_t
floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01. https://howardhinnant.github.io/date_algorithms.html */
static int64_t
days_from_date(struct date d)
{
    int64_t y = d.month <= 2 ? d.year - 1 : d.year;
    int64_t era = floor_div(y, 400), yoe = y - era * 400;
    int64_t doy = (153 * (d.month + (d.month > 2 ? -3 : 9)) + 2) / 5 + d.day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct date
date_from_days(int64_t days)
{
    int64_t z = days + 719468, era = floor_div(z, 146097), doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    struct date d = {
        .day = (int)(doy - (153 * mp + 2) / 5 + 1), .month = (int)(mp < 10 ? mp + 3 : mp - 9)};
    d.year = yoe + era * 400 + (d.month <= 2);
    return d;
}

static int
days_of_month(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && is_leap ? 29 : days[month - 1];
}

/* ---- text ---- */

static char *
put_digits(char *to, int64_t v, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        to[i] = (char)('0' + v % 10);
        v /= 10;
    }
    return to + width;
}

static char *
put_year(char *to, int64_t year)
{
    if (year >= 0 && year <= 9999) {
        return put_digits(to, year, 4);
    }
    *to++ = year < 0 ? '-' : '+';
    int64_t v = year < 0 ? -year : year;
    return put_digits(to, v, v > 99999 ? 6 : v > 9999 ? 5 : 4);
}

size_t
clock_format_us(int64_t wall_us, char to[CLOCK_TEXT_MAX])
{
    int64_t days = floor_div(wall_us, us_per_day), us = wall_us % us_per_day;
    us = us < 0 ? us + us_per_day : us;
    struct date d = date_from_days(days);
    char *p = put_year(to, d.year);
    *p++ = '-';
    p = put_digits(p, d.month, 2);
    *p++ = '-';
    p = put_digits(p, d.day, 2);
    *p++ = 'T';
    p = put_digits(p, us / 3600000000, 2);
    *p++ = ':';
    p = put_digits(p, us / 60000000 % 60, 2);
    *p++ = ':';
    p = put_digits(p, us / 1000000 % 60, 2);
    *p++ = '.';
    p = put_digits(p, us % 1000000, 6);
    *p++ = 'Z';
    *p = 0;
    return (size_t)(p - to);
}

/* A cursor over the text: every take_* fails when the text does not go on as wanted. */
static bool
take_char(struct str *s, const char *any_of)
{
    if (s->n == 0 || s->p[0] == 0 || strchr(any_of, s->p[0]) == NULL) {
        return false;
    }
    s->p++;
    s->n--;
    return true;
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
take_number(struct str *s, size_t min_width, size_t max_width, int64_t max, int64_t *ret)
{
    size_t n = 0;
    int64_t v = 0;
    while (n < s->n && n < max_width && is_digit(s->p[n])) {
        v = v * 10 + (s->p[n++] - '0');
    }
    if (n < min_width || v > max) {
        return false;
    }
    s->p += n;
    s->n -= n;
    *ret = v;
    return true;
}

static bool
take_date(struct str *s, int64_t *ret_days)
{
    int64_t year, month, day;
    bool has_sign = s->n > 0 && (s->p[0] == '-' || s->p[0] == '+');
    bool is_negative = has_sign && s->p[0] == '-';
    if (has_sign) {
        (void)take_char(s, "+-");
    }
    if (!take_number(s, 4, has_sign ? 6 : 4, 999999, &year) || !take_char(s, "-") ||
        !take_number(s, 2, 2, 12, &month) || !take_char(s, "-") ||
        !take_number(s, 2, 2, 31, &day)) {
        return false;
    }
    year = is_negative ? -year : year;
    if (month < 1 || day < 1 || day > days_of_month(year, (int)month)) {
        return false;
    }
    *ret_days =
        days_from_date((struct date){.year = year, .month = (int)month, .day = (int)day});
    return true;
}

/* Digits beyond the sixth are dropped. */
static bool
take_fraction(struct str *s, int64_t *ret_us)
{
    int64_t us = 0, unit = 100000;
    if (!take_char(s, ".")) {
        *ret_us = 0;
        return true;
    }
    if (s->n == 0 || !is_digit(s->p[0])) {
        return false;
    }
    for (; s->n > 0 && is_digit(s->p[0]); s->p++, s->n--) {
        us += (s->p[0] - '0') * unit;
        unit /= 10;
    }
    *ret_us = us;
    return true;
}

static bool
take_time(struct str *s, int64_t *ret_us)
{
    int64_t hour, minute, second, us;
    /* Second 60 is a leap second; it counts as the first of the next minute. */
    if (!take_number(s, 2, 2, 23, &hour) || !take_char(s, ":") ||
        !take_number(s, 2, 2, 59, &minute) || !take_char(s, ":") ||
        !take_number(s, 2, 2, 60, &second) || !take_fraction(s, &us)) {
        return false;
    }
    *ret_us = ((hour * 60 + minute) * 60 + second) * 1000000 + us;
    return true;
}

static bool
take_zone(struct str *s, int64_t *ret_us)
{
    int64_t hour, minute;
    if (take_char(s, "Zz")) {
        *ret_us = 0;
        return true;
    }
    bool is_west = s->n > 0 && s->p[0] == '-';
    if (!take_char(s, "+-") || !take_number(s, 2, 2, 23, &hour) || !take_char(s, ":") ||
        !take_number(s, 2, 2, 59, &minute)) {
        return false;
    }
    int64_t us = (hour * 60 + minute) * 60000000;
    *ret_us = is_west ? -us : us;
    return true;
}

bool
clock_parse_us(struct str text, int64_t *ret_wall_us)
{
    int64_t days, us, zone_us, wall;
    if (!take_date(&text, &days) || !take_char(&text, "Tt ") || !take_time(&text, &us) ||
        !take_zone(&text, &zone_us) || text.n > 0) {
        return false;
    }
    us -= zone_us;
    if (days < 0) { /* the first day that int64_t can hold begins before it does */
        days += 1;
        us -= us_per_day;
    }
    if (__builtin_mul_overflow(days, us_per_day, &wall) ||
        __builtin_add_overflow(wall, us, &wall)) {
        return false;
    }
    *ret_wall_us = wall;
    return true;
}
