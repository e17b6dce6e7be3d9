/*
 * The optional accelerator of the packet engine: ChaCha20-Poly1305 (RFC 8439) for many messages under one key in one
 * call, with WireGuard's nonces and no additional data. accelerator.ts lays out the table, and the engine works the
 * same without this. Little-endian machines only. Its other half, acceleratorlone.h, waits for packets.
 *
 * A message of the table, u32 each: 0 where, 4 length without tag, 8 counter low, 12 counter high, 16 result.
 *
 * Every lane of a vector makes one block of key stream. Lanes are given out in order over all messages: block 0 of
 * the first, which is its one-time Poly1305 key, blocks 1 to n of its data, block 0 of the second … so that only the
 * last batch of a call can have idle ones. Nothing branches on, or indexes by, a key or what follows from it, except
 * whether a tag is right.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are read as they lie in memory"
#endif

#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define UNROLL _Pragma("unroll")
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#define UNROLL _Pragma("GCC unroll 5")
#endif

enum { KEY_BYTES = 32, BLOCK_BYTES = 64, POLY_BLOCK = 16, LANES_MAX = 16 };

struct message {
  uint32_t at, length, low, high, genuine;
};

/* What each lane of a batch makes: which block of which message. */
struct lanes {
  uint32_t counter[LANES_MAX], low[LANES_MAX], high[LANES_MAX];
  struct message *message[LANES_MAX];
  int used;
} __attribute__((aligned(64)));

typedef unsigned __int128 wide;
typedef uint8_t chunk __attribute__((vector_size(16), may_alias));

/* RFC 8439 §2.3: "expand 32-byte k"; §2.5: the bits of r that are always 0. */
static const uint32_t CONSTANTS[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
static const uint64_t CLAMP_LOW = 0x0ffffffc0fffffff, CLAMP_HIGH = 0x0ffffffc0ffffffc;

static inline uint64_t read64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* The tag of low + top * 2^128: the remainder modulo 2^130 - 5, plus s (RFC 8439 §2.5). */
static void finish(uint8_t *tag, wide low, uint64_t top, const uint8_t *s) {
  wide pad, less;
  uint64_t fold = (top >> 2) * 5;
  low += fold;
  top = (top & 3) + (low < fold);
  less = low + 5;
  wide over = -(wide)((top + (less < 5)) >> 2);
  memcpy(&pad, s, sizeof pad);
  low = (low & ~over) + (less & over) + pad;
  memcpy(tag, &low, sizeof low);
}

#define LANES 4
#define TARGET
#include "acceleratorlanes.h"
#ifdef __x86_64__
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#include "acceleratorlanes.h"
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512ifma")))
#include "acceleratorlanes.h"
#endif

/* Poly1305 on 64-bit registers: limbs of 44, 44 and 42 bits, four blocks at a time by the powers of r. */
enum { POWERS = 4 };
static const uint64_t MASK_44 = (1ull << 44) - 1, MASK_42 = (1ull << 42) - 1;

typedef struct {
  uint64_t l[3];
} number;

static inline number split(const uint8_t *at, uint64_t mask_low, uint64_t mask_high, uint64_t bit) {
  uint64_t low = read64(at) & mask_low, high = read64(at + 8) & mask_high;
  return (number){{low & MASK_44, (low >> 44 | high << 20) & MASK_44, high >> 24 | bit}};
}

static inline void add_product(wide sum[3], number a, number b) {
  uint64_t s1 = b.l[1] * 20, s2 = b.l[2] * 20;
  sum[0] += (wide)a.l[0] * b.l[0] + (wide)a.l[1] * s2 + (wide)a.l[2] * s1;
  sum[1] += (wide)a.l[0] * b.l[1] + (wide)a.l[1] * b.l[0] + (wide)a.l[2] * s2;
  sum[2] += (wide)a.l[0] * b.l[2] + (wide)a.l[1] * b.l[1] + (wide)a.l[2] * b.l[0];
}

static inline number carried(wide sum[3]) {
  sum[1] += (uint64_t)(sum[0] >> 44);
  sum[2] += (uint64_t)(sum[1] >> 44);
  uint64_t first = ((uint64_t)sum[0] & MASK_44) + (uint64_t)(sum[2] >> 42) * 5;
  return (number){{first & MASK_44, ((uint64_t)sum[1] & MASK_44) + (first >> 44), (uint64_t)sum[2] & MASK_42}};
}

static inline number product(number a, number b) {
  wide sum[3] = {0};
  add_product(sum, a, b);
  return carried(sum);
}

static number absorb(number h, const number powers[POWERS], const uint8_t *at, uint32_t blocks) {
  while (blocks > 0) {
    uint32_t some = blocks < POWERS ? 1 : POWERS;
    wide sum[3] = {0};
    for (uint32_t i = 0; i < some; i++, at += POLY_BLOCK) {
      number m = split(at, ~0ull, ~0ull, 1ull << 40);
      if (i == 0) m.l[0] += h.l[0], m.l[1] += h.l[1], m.l[2] += h.l[2];
      add_product(sum, m, powers[some - 1 - i]);
    }
    h = carried(sum);
    blocks -= some;
  }
  return h;
}

/* RFC 8439 §2.8: the tag of the ciphertext, filled up with zeros to whole blocks, and of its length. */
static void authenticate4(uint8_t *tag, const uint8_t *once, const uint8_t *data, uint32_t length) {
  uint32_t rest = length % POLY_BLOCK, tail_blocks = rest > 0 ? 2 : 1;
  uint8_t tail[2 * POLY_BLOCK] = {0};
  uint64_t bytes = length;
  number powers[POWERS] = {split(once, CLAMP_LOW, CLAMP_HIGH, 0)}, h = {{0}};
  for (int i = 1; i < POWERS; i++) powers[i] = product(powers[i - 1], powers[0]);
  memcpy(tail, data + length - rest, rest);
  memcpy(tail + tail_blocks * POLY_BLOCK - sizeof bytes, &bytes, sizeof bytes);
  h = absorb(h, powers, data, length / POLY_BLOCK);
  h = absorb(h, powers, tail, tail_blocks);
  h.l[2] += h.l[1] >> 44;
  finish(tag, (wide)h.l[2] << 88 | (wide)(h.l[1] & MASK_44) << 44 | h.l[0], h.l[2] >> 40, once + POLY_BLOCK);
}

/* How wide vectors are: 0 is 128 bits, 1 is 256, 2 is 512. */
static int level = 0;

/* From now on vectors are as wide as the machine has them, and no wider than `most`; how wide that is. */
int exn_level(int most) {
  int offered = 0;
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) offered = 1;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma")) offered = 2;
#endif
  return level = most < offered ? most : offered;
}

static void make_stream(const uint32_t key[8], const struct lanes *lanes, uint8_t *stream) {
#ifdef __x86_64__
  if (level == 2) return stream16(key, lanes, stream);
  if (level == 1) return stream8(key, lanes, stream);
#endif
  stream4(key, lanes, stream);
}

static void authenticate(uint8_t *tag, const uint8_t *once, const uint8_t *data, uint32_t length) {
#ifdef __x86_64__
  if (level == 2) return authenticate16(tag, once, data, length);
  if (level == 1) return authenticate8(tag, once, data, length);
#endif
  authenticate4(tag, once, data, length);
}

static uint32_t verify(const uint8_t *once, const uint8_t *data, uint32_t length) {
  uint8_t tag[POLY_BLOCK];
  authenticate(tag, once, data, length);
  uint64_t low = read64(tag) ^ read64(data + length), high = read64(tag + 8) ^ read64(data + length + 8);
  return (low | high) == 0;
}

/* Where the next lane goes on. */
struct cursor {
  struct message *message, *end;
  uint32_t counter;
};

static void give_out(struct lanes *lanes, struct cursor *cursor, int most) {
  int i = 0;
  for (; i < most && cursor->message < cursor->end; i++) {
    struct message *message = cursor->message;
    lanes->message[i] = message;
    lanes->counter[i] = cursor->counter;
    lanes->low[i] = message->low;
    lanes->high[i] = message->high;
    if (cursor->counter++ * BLOCK_BYTES >= message->length) cursor->message++, cursor->counter = 0;
  }
  lanes->used = i;
}

/* `stride` chunks lie between two of one block. */
static inline void add_stream(uint8_t *at, const chunk *stream, int stride, uint32_t length) {
  for (; length >= sizeof(chunk); length -= sizeof(chunk), at += sizeof(chunk), stream += stride) {
    chunk part;
    memcpy(&part, at, sizeof part);
    part ^= *stream;
    memcpy(at, &part, sizeof part);
  }
  for (uint32_t i = 0; i < length; i++) at[i] ^= ((const uint8_t *)stream)[i];
}

/* A message is sealed when its last lane is used, and judged when its first is: a forgery stays as it came. */
static void run(uint8_t *memory, const uint8_t *key, struct message *messages, int count, int seals) {
  const int most = 4 << level;
  struct cursor cursor = {messages, messages + count, 0};
  struct lanes two[2] = {0}, *lanes = two, *following = two + 1;
  struct {
    chunk stream[LANES_MAX * BLOCK_BYTES / sizeof(chunk)], once[KEY_BYTES / sizeof(chunk)];
    uint32_t key[8];
  } __attribute__((aligned(64))) secret;
  uint8_t *once = (uint8_t *)secret.once;
  memcpy(secret.key, key, KEY_BYTES);
  for (give_out(lanes, &cursor, most); lanes->used > 0;) {
    make_stream(secret.key, lanes, (uint8_t *)secret.stream);
    /* Now, and not when they are needed: vectors cannot be read at once where words were just written. */
    give_out(following, &cursor, most);
    for (int i = 0; i < lanes->used; i++) {
      struct message *message = lanes->message[i];
      const chunk *stream = secret.stream + i % 4 * (most / 4) + i / 4;
      uint32_t length = message->length, end = lanes->counter[i] * BLOCK_BYTES;
      uint8_t *packet = memory + message->at;
      if (end == 0) {
        secret.once[0] = stream[0], secret.once[1] = stream[most];
        if (!seals) message->genuine = verify(once, packet, length);
      } else if (seals || message->genuine) {
        uint32_t from = end - BLOCK_BYTES;
        if (end <= length) add_stream(packet + from, stream, most, BLOCK_BYTES);
        else add_stream(packet + from, stream, most, length - from);
      }
      if (seals && end >= length) authenticate(packet + length, once, packet, length);
    }
    struct lanes *used = lanes;
    lanes = following, following = used;
  }
  memset(&secret, 0, sizeof secret);
  __asm__ volatile("" : : "r"(&secret) : "memory");
}

/* Seals in place and writes the tag behind each. */
void exn_seal(uint8_t *memory, const uint8_t *key, struct message *messages, int count) {
  run(memory, key, messages, count, 1);
}

/* Opens in place; each message's `genuine` is 1, or 0 for a forgery, which stays as it came. */
void exn_open(uint8_t *memory, const uint8_t *key, struct message *messages, int count) {
  run(memory, key, messages, count, 0);
}

#include "acceleratorlone.h"
