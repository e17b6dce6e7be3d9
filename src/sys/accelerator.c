/*
 * The optional accelerator of the packet engine: many messages under one key in one call, ChaCha20-Poly1305 by
 * OpenSSL's libcrypto. It decides nothing: accelerator.ts lays out the table, and the engine works the same without.
 *
 * A message of the table, u32 each: 0 where, 4 length without tag, 8 counter low, 12 counter high, 16 result.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TAG_BYTES = 16, GET_TAG = 0x10, SET_TAG = 0x11 };

struct message {
  uint32_t at, length, low, high, genuine;
};

typedef void cipher_context;
typedef int (*init_call)(cipher_context *, const void *cipher, void *engine, const uint8_t *key, const uint8_t *nonce);
typedef int (*update_call)(cipher_context *, uint8_t *out, int *written, const uint8_t *in, int length);
typedef int (*final_call)(cipher_context *, uint8_t *out, int *written);
typedef int (*control_call)(cipher_context *, int command, int length, void *data);

/* One per process: the engine is one thread, and every thread that seals has contexts of its own. */
static init_call encrypt_init, decrypt_init;
static update_call encrypt_update, decrypt_update;
static final_call encrypt_final, decrypt_final;
static control_call control;
static cipher_context *(*new_context)(void);
static const void *(*chacha20_poly1305)(void);

/* 1 when libcrypto has everything. */
int exn_open_library(void) {
  void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 0;
  encrypt_init = (init_call)dlsym(library, "EVP_EncryptInit_ex");
  decrypt_init = (init_call)dlsym(library, "EVP_DecryptInit_ex");
  encrypt_update = (update_call)dlsym(library, "EVP_EncryptUpdate");
  decrypt_update = (update_call)dlsym(library, "EVP_DecryptUpdate");
  encrypt_final = (final_call)dlsym(library, "EVP_EncryptFinal_ex");
  decrypt_final = (final_call)dlsym(library, "EVP_DecryptFinal_ex");
  control = (control_call)dlsym(library, "EVP_CIPHER_CTX_ctrl");
  new_context = (cipher_context * (*)(void)) dlsym(library, "EVP_CIPHER_CTX_new");
  chacha20_poly1305 = (const void *(*)(void))dlsym(library, "EVP_chacha20_poly1305");
  return encrypt_init && decrypt_init && encrypt_update && decrypt_update && encrypt_final && decrypt_final && control &&
         new_context && chacha20_poly1305;
}

/* A context that seals or opens; NULL when there is none to be had. It lives as long as the process. */
cipher_context *exn_context(int seals) {
  cipher_context *context = new_context();
  if (context == NULL) return NULL;
  init_call init = seals ? encrypt_init : decrypt_init;
  return init(context, chacha20_poly1305(), NULL, NULL, NULL) == 1 ? context : NULL;
}

static void put_nonce(uint8_t nonce[12], const struct message *message) {
  memset(nonce, 0, 4);
  memcpy(nonce + 4, &message->low, 4);
  memcpy(nonce + 8, &message->high, 4);
}

/* Seals in place and writes the tag behind each; the number that went well. */
int exn_seal(cipher_context *context, uint8_t *memory, const uint8_t *key, struct message *messages, int count) {
  for (int i = 0; i < count; i++) {
    const struct message *message = &messages[i];
    uint8_t *packet = memory + message->at;
    uint8_t nonce[12];
    int length = (int)message->length, written;
    put_nonce(nonce, message);
    if (encrypt_init(context, NULL, NULL, i == 0 ? key : NULL, nonce) != 1) return i;
    if (length > 0 && encrypt_update(context, packet, &written, packet, length) != 1) return i;
    if (encrypt_final(context, packet + length, &written) != 1) return i;
    if (control(context, GET_TAG, TAG_BYTES, packet + length) != 1) return i;
  }
  return count;
}

/* Opens in place; each message's `genuine` is 1, or 0 for a forgery, whose place then holds nonsense. */
void exn_open(cipher_context *context, uint8_t *memory, const uint8_t *key, struct message *messages, int count) {
  for (int i = 0; i < count; i++) {
    struct message *message = &messages[i];
    uint8_t *packet = memory + message->at;
    uint8_t nonce[12];
    int length = (int)message->length, written;
    put_nonce(nonce, message);
    message->genuine = decrypt_init(context, NULL, NULL, i == 0 ? key : NULL, nonce) == 1 &&
                       (length == 0 || decrypt_update(context, packet, &written, packet, length) == 1) &&
                       control(context, SET_TAG, TAG_BYTES, packet + length) == 1 &&
                       decrypt_final(context, packet + length, &written) == 1;
  }
}

/* Overwrites the keys that the contexts hold. */
void exn_forget(cipher_context *sealing, cipher_context *opening) {
  static const uint8_t zeros[32];
  encrypt_init(sealing, NULL, NULL, zeros, zeros);
  decrypt_init(opening, NULL, NULL, zeros, zeros);
}
