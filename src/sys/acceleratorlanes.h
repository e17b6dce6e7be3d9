/*
 * The vector half of accelerator.c, which includes this once for each width. LANES is how many 32-bit words are in a
 * vector, TARGET the attribute of functions that use it. 4 lanes are plain vector extensions, for every machine; 8 are
 * AVX2; 16 are AVX-512 with its 52-bit multiplier (IFMA).
 */
#define JOIN_(name, lanes) name##lanes
#define JOIN(name, lanes) JOIN_(name, lanes)
#define WORDS JOIN(words, LANES)

typedef uint32_t WORDS __attribute__((vector_size(4 * LANES), may_alias));

/* Which words of two vectors to take, within each 128 bits: ZIP alternates single words, PAIR pairs of them. */
#if LANES == 4
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#define PAIR_LOW 0, 1, 4, 5
#define PAIR_HIGH 2, 3, 6, 7
#elif LANES == 8
#define ZIP_LOW 0, 8, 1, 9, 4, 12, 5, 13
#define ZIP_HIGH 2, 10, 3, 11, 6, 14, 7, 15
#define PAIR_LOW 0, 1, 8, 9, 4, 5, 12, 13
#define PAIR_HIGH 2, 3, 10, 11, 6, 7, 14, 15
#else
#define ZIP_LOW 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define ZIP_HIGH 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define PAIR_LOW 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define PAIR_HIGH 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#endif

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#if LANES == 8
/* AVX2 rotates by whole bytes in one shuffle; the compiler makes three instructions of it, or one in AVX-512. */
#define BY_2 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13
#define BY_1 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14
#define ROTATE_16(x) ((WORDS)_mm256_shuffle_epi8((__m256i)(x), _mm256_setr_epi8(BY_2, BY_2)))
#define ROTATE_8(x) ((WORDS)_mm256_shuffle_epi8((__m256i)(x), _mm256_setr_epi8(BY_1, BY_1)))
#else
#define ROTATE_16(x) ROTATE(x, 16)
#define ROTATE_8(x) ROTATE(x, 8)
#endif

/* RFC 8439 §2.1 */
#define QUARTER(a, b, c, d)    \
  a += b, d = ROTATE_16(d ^ a); \
  c += d, b = ROTATE(b ^ c, 12); \
  a += b, d = ROTATE_8(d ^ a);  \
  c += d, b = ROTATE(b ^ c, 7)

/* LANES blocks of RFC 8439 §2.3 side by side: x[i] holds word i of every block. */
TARGET static void JOIN(stream, LANES)(const uint32_t key[8], const struct lanes *lanes, uint8_t *stream) {
  const WORDS none = {0}, counter = *(const WORDS *)lanes->counter;
  const WORDS low = *(const WORDS *)lanes->low, high = *(const WORDS *)lanes->high;
  WORDS x[16], *out = (WORDS *)stream;
  for (int i = 0; i < 4; i++) x[i] = none + CONSTANTS[i];
  for (int i = 0; i < 8; i++) x[4 + i] = none + key[i];
  x[12] = counter, x[13] = none, x[14] = low, x[15] = high;
  for (int round = 0; round < 20; round += 2) {
    QUARTER(x[0], x[4], x[8], x[12]);
    QUARTER(x[1], x[5], x[9], x[13]);
    QUARTER(x[2], x[6], x[10], x[14]);
    QUARTER(x[3], x[7], x[11], x[15]);
    QUARTER(x[0], x[5], x[10], x[15]);
    QUARTER(x[1], x[6], x[11], x[12]);
    QUARTER(x[2], x[7], x[8], x[13]);
    QUARTER(x[3], x[4], x[9], x[14]);
  }
  for (int i = 0; i < 4; i++) x[i] += CONSTANTS[i];
  for (int i = 0; i < 8; i++) x[4 + i] += key[i];
  x[12] += counter, x[14] += low, x[15] += high;
  /* Four rows by four lanes turned over, within each 128 bits: 16 bytes of lanes 0, 4, 8 …, then of lanes 1, 5, 9 … */
  UNROLL
  for (int row = 0; row < 16; row += 4, out += 4) {
    WORDS a = SHUFFLE(WORDS, x[row], x[row + 1], ZIP_LOW), b = SHUFFLE(WORDS, x[row + 2], x[row + 3], ZIP_LOW);
    WORDS c = SHUFFLE(WORDS, x[row], x[row + 1], ZIP_HIGH), d = SHUFFLE(WORDS, x[row + 2], x[row + 3], ZIP_HIGH);
    out[0] = SHUFFLE(WORDS, a, b, PAIR_LOW);
    out[1] = SHUFFLE(WORDS, a, b, PAIR_HIGH);
    out[2] = SHUFFLE(WORDS, c, d, PAIR_LOW);
    out[3] = SHUFFLE(WORDS, c, d, PAIR_HIGH);
  }
}

#if LANES > 4
/*
 * Poly1305 of WIDTH blocks side by side, as many as 64-bit words are in a vector: each lane adds up every WIDTH-th
 * block by Horner's rule in r^WIDTH, and in the end lane i counts r^(WIDTH - i). Numbers are LIMBS limbs of BITS bits:
 * 5 of 26 for a multiplier of 32 bits, 3 of 44 for one of 52. After a multiplication a limb is above 2^BITS by less
 * than 2^12, so that also 5 or 20 times it is within what the multiplier takes.
 */
#define WIDTH (LANES / 2)
#define LONGS JOIN(longs, LANES)
#define NUMBER JOIN(number, LANES)
#define FACTOR JOIN(multiplier, LANES)
#define FN(name) JOIN(name, LANES)
#define INLINE TARGET __attribute__((always_inline)) static inline

typedef uint64_t LONGS __attribute__((vector_size(4 * LANES)));

#if LANES == 8
#define LIMBS 5
#define BITS 26
#define ORDER 0, 2, 1, 3
#define LONG_LOW 0, 4, 2, 6
#define LONG_HIGH 1, 5, 3, 7
#else
#define LIMBS 3
#define BITS 44
#define ORDER 0, 4, 1, 5, 2, 6, 3, 7
#define LONG_LOW 0, 8, 2, 10, 4, 12, 6, 14
#define LONG_HIGH 1, 9, 3, 11, 5, 13, 7, 15
#endif
#define MASK ((1ull << BITS) - 1)
/* Bit 128 of a number, in the last limb. */
#define BIT_128 (1ull << (128 - BITS * (LIMBS - 1)))

typedef struct {
  LONGS l[LIMBS];
} NUMBER;
/* r, and r times what 2^(BITS * LIMBS) is modulo 2^130 - 5. */
typedef struct {
  LONGS r[LIMBS], s[LIMBS];
} FACTOR;

INLINE FACTOR FN(factor)(NUMBER a) {
  FACTOR f;
  UNROLL
  for (int i = 0; i < LIMBS; i++) f.r[i] = a.l[i], f.s[i] = (a.l[i] << 2) + (LIMBS == 5 ? a.l[i] : a.l[i] << 4);
  return f;
}

#if LIMBS == 5
#define LANE_SUM(v) ((v)[0] + (v)[1] + (v)[2] + (v)[3])
#define LONG(a, b) ((LONGS)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define SUM(i, a, b, c, d, e) \
  (m.l[i] + LONG(h.l[0], a) + LONG(h.l[1], b) + LONG(h.l[2], c) + LONG(h.l[3], d) + LONG(h.l[4], e))
INLINE NUMBER FN(split)(LONGS low, LONGS high) {
  return (NUMBER){{low & MASK, low >> 26 & MASK, (low >> 52 | high << 12) & MASK, high >> 14 & MASK, high >> 40}};
}
/* h * f + m */
INLINE NUMBER FN(times)(NUMBER h, FACTOR f, NUMBER m) {
  LONGS d0 = SUM(0, f.r[0], f.s[4], f.s[3], f.s[2], f.s[1]), d1 = SUM(1, f.r[1], f.r[0], f.s[4], f.s[3], f.s[2]);
  LONGS d2 = SUM(2, f.r[2], f.r[1], f.r[0], f.s[4], f.s[3]), d3 = SUM(3, f.r[3], f.r[2], f.r[1], f.r[0], f.s[4]);
  LONGS d4 = SUM(4, f.r[4], f.r[3], f.r[2], f.r[1], f.r[0]), over;
  d1 += d0 >> 26, d4 += d3 >> 26;
  d2 += d1 >> 26, over = d4 >> 26;
  d0 = (d0 & MASK) + over + (over << 2), d3 = (d3 & MASK) + (d2 >> 26);
  return (NUMBER){{d0 & MASK, (d1 & MASK) + (d0 >> 26), d2 & MASK, d3 & MASK, (d4 & MASK) + (d3 >> 26)}};
}
#undef LONG
#undef SUM
#else
#define LANE_SUM(v) ((uint64_t)_mm512_reduce_add_epi64((__m512i)(v)))
/* Products' low 52 bits, and their high bits, which stand 52 - 44 bits into the next limb. */
#define LOW(sum, a, b) ((LONGS)_mm512_madd52lo_epu64((__m512i)(sum), (__m512i)(a), (__m512i)(b)))
#define HIGH(sum, a, b) ((LONGS)_mm512_madd52hi_epu64((__m512i)(sum), (__m512i)(a), (__m512i)(b)))
/* The limb that is known first is taken first. */
#define SUM(part, from, a, b, c) part(part(part(from, h.l[2], c), h.l[0], a), h.l[1], b)
INLINE NUMBER FN(split)(LONGS low, LONGS high) {
  return (NUMBER){{low & MASK, (low >> 44 | high << 20) & MASK, high >> 24}};
}
/* h * f + m */
INLINE NUMBER FN(times)(NUMBER h, FACTOR f, NUMBER m) {
  const LONGS none = {0};
  LONGS d0 = SUM(LOW, m.l[0], f.r[0], f.s[2], f.s[1]), d1 = SUM(LOW, m.l[1], f.r[1], f.r[0], f.s[2]);
  LONGS d2 = SUM(LOW, m.l[2], f.r[2], f.r[1], f.r[0]), d3 = SUM(HIGH, none, f.r[2], f.r[1], f.r[0]) << 8;
  d1 += SUM(HIGH, none, f.r[0], f.s[2], f.s[1]) << 8;
  d2 += SUM(HIGH, none, f.r[1], f.r[0], f.s[2]) << 8;
  d3 += d2 >> 44;
  d0 += (d3 << 4) + (d3 << 2);
  return (NUMBER){{d0 & MASK, (d1 & MASK) + (d0 >> 44), (d2 & MASK) + (d1 >> 44)}};
}
#undef LOW
#undef HIGH
#undef SUM
#endif

/* WIDTH blocks, and bit 128 where `bit` has it. */
INLINE NUMBER FN(blocks)(const uint8_t *at, LONGS bit) {
  LONGS a, b;
  memcpy(&a, at, sizeof a);
  memcpy(&b, at + sizeof a, sizeof b);
  NUMBER m = FN(split)(SHUFFLE(LONGS, a, b, LONG_LOW), SHUFFLE(LONGS, a, b, LONG_HIGH));
  m.l[LIMBS - 1] |= bit;
  return m;
}

/* Lane by lane, a where the mask is all ones, b where it is 0. */
INLINE NUMBER FN(pick)(LONGS mask, NUMBER a, NUMBER b) {
  UNROLL
  for (int i = 0; i < LIMBS; i++) a.l[i] = (a.l[i] & mask) | (b.l[i] & ~mask);
  return a;
}

/* As authenticate of accelerator.c. Blocks of nothing go before the first, so that the last is in the last lane. */
TARGET static void FN(authenticate)(uint8_t *tag, const uint8_t *once, const uint8_t *data, uint32_t length) {
  enum { STEP = WIDTH * POLY_BLOCK };
  uint32_t blocks = (length + POLY_BLOCK - 1) / POLY_BLOCK + 1, steps = (blocks + WIDTH - 1) / WIDTH;
  uint32_t lead = steps * WIDTH - blocks, in_head = steps > 1 ? STEP - lead * POLY_BLOCK : length;
  uint32_t in_tail = steps > 1 ? length - in_head - (steps - 2) * STEP : 0;
  uint8_t head[STEP] = {0}, tail[STEP] = {0};
  uint64_t bytes = length;
  memcpy(head + lead * POLY_BLOCK, data, in_head);
  memcpy(tail, data + length - in_tail, in_tail);
  memcpy((steps > 1 ? tail : head) + STEP - sizeof bytes, &bytes, sizeof bytes);

  const LONGS none = {0}, order = {ORDER}, exponent = WIDTH - 1 - order, bit = none + BIT_128;
  const NUMBER zero = {{none}}, one = {{none + 1}};
  NUMBER r = FN(split)(none + (read64(once) & CLAMP_LOW), none + (read64(once + 8) & CLAMP_HIGH));
  /* Lane by lane r^(exponent + 1), one bit of the exponent after the other. */
  NUMBER r2 = FN(times)(r, FN(factor)(r), zero), powers = FN(pick)(-(exponent & 1), r2, r), highest;
  powers = FN(times)(powers, FN(factor)(FN(pick)(-(exponent >> 1 & 1), r2, one)), zero);
#if WIDTH == 8
  NUMBER r4 = FN(times)(r2, FN(factor)(r2), zero);
  powers = FN(times)(powers, FN(factor)(FN(pick)(-(exponent >> 2), r4, one)), zero);
#endif
  UNROLL
  for (int i = 0; i < LIMBS; i++) highest.l[i] = none + powers.l[i][0];
  FACTOR all = FN(factor)(highest);
  NUMBER h = FN(blocks)(head, (LONGS)(order >= lead) & bit);
  const uint8_t *next = data + in_head;
  for (uint32_t step = 2; step < steps; step++, next += STEP) h = FN(times)(h, all, FN(blocks)(next, bit));
  if (steps > 1) h = FN(times)(h, all, FN(blocks)(tail, bit));
  h = FN(times)(h, FN(factor)(powers), zero);

  wide low = 0;
  uint64_t limb = 0;
  for (int i = 0; i < LIMBS; i++) {
    limb >>= BITS;
    limb += LANE_SUM(h.l[i]);
    low |= (wide)(i < LIMBS - 1 ? limb & MASK : limb) << (BITS * i);
  }
  finish(tag, low, limb / BIT_128, once + POLY_BLOCK);
}

#undef LANE_SUM
#undef ORDER
#undef LONG_LOW
#undef LONG_HIGH
#undef LIMBS
#undef BITS
#undef MASK
#undef BIT_128
#undef WIDTH
#undef LONGS
#undef NUMBER
#undef FACTOR
#undef FN
#undef INLINE
#endif

#undef ZIP_LOW
#undef ZIP_HIGH
#undef PAIR_LOW
#undef PAIR_HIGH
#undef ROTATE
#undef ROTATE_16
#undef ROTATE_8
#undef BY_1
#undef BY_2
#undef QUARTER
#undef WORDS
#undef JOIN
#undef JOIN_
#undef LANES
#undef TARGET
