/* A waPC module that verifies signatures on the curve secp256k1: by Schnorr (BIP-340), by ECDSA, or by both, as
 * VERIFY_SCHNORR and VERIFY_ECDSA say. It keeps nothing between calls, and imports nothing but waPC.
 *
 *     verify_message   MessagePack: {"kind": "schnorr" | "ecdsa", "public_key": bin, "signature": bin, "message": bin}
 *                      answer: {"valid": bool, "status": text}, the texts of status.h
 *     verify_batch     many messages, one after another, numbers little-endian:
 *                          kind (u8: 1 Schnorr, 2 ECDSA), length of the key (u8), of the signature (u16), of the
 *                          message (u32), key, signature, message
 *                      answer: a byte for each, the numbers of status.h
 *
 * Schnorr: a key of 32 bytes (x only), a signature of 64, a message of any length. What is signed is the message itself:
 * BIP-340 hashes it into its challenge, tagged, and takes no digest of it before.
 * ECDSA: a key of 33 or 65 bytes, a signature in DER with a low s, and what is signed is the SHA-256 of the message.
 */

#include "secp256k1.c"

#include "message_pack.h"
#include "status.h"
#include "wapc.h"

enum kind { NO_KIND = 0, SCHNORR = 1, ECDSA = 2 };

struct request {
    enum kind kind;
    struct span public_key, signature, message;
};

/* The library calls these where its own caller errs. Nothing here does. */
void secp256k1_default_illegal_callback_fn(const char *text, void *data)
{
    (void)text, (void)data;
    __builtin_trap();
}

void secp256k1_default_error_callback_fn(const char *text, void *data)
{
    (void)text, (void)data;
    __builtin_trap();
}

#ifdef VERIFY_SCHNORR
static enum status verify_schnorr(const struct request *request)
{
    secp256k1_xonly_pubkey key;
    if (request->public_key.length != 32
        || !secp256k1_xonly_pubkey_parse(secp256k1_context_static, &key, request->public_key.start))
        return BAD_KEY;
    if (request->signature.length != 64)
        return BAD_SIGNATURE;
    return secp256k1_schnorrsig_verify(secp256k1_context_static, request->signature.start, request->message.start,
                                       request->message.length, &key) ? VALID : INVALID;
}
#endif

#ifdef VERIFY_ECDSA
static enum status verify_ecdsa(const struct request *request)
{
    secp256k1_pubkey key;
    secp256k1_ecdsa_signature signature;
    secp256k1_sha256 hash;
    unsigned char digest[32];
    if (!secp256k1_ec_pubkey_parse(secp256k1_context_static, &key, request->public_key.start,
                                   request->public_key.length))
        return BAD_KEY;
    if (!secp256k1_ecdsa_signature_parse_der(secp256k1_context_static, &signature, request->signature.start,
                                             request->signature.length))
        return BAD_SIGNATURE;
    secp256k1_sha256_initialize(&hash);
    secp256k1_sha256_write(secp256k1_get_hash_context(secp256k1_context_static), &hash, request->message.start,
                           request->message.length);
    secp256k1_sha256_finalize(secp256k1_get_hash_context(secp256k1_context_static), &hash, digest);
    return secp256k1_ecdsa_verify(secp256k1_context_static, &signature, digest, &key) ? VALID : INVALID;
}
#endif

static enum status verify(const struct request *request)
{
    switch (request->kind) {
#ifdef VERIFY_SCHNORR
    case SCHNORR:
        return verify_schnorr(request);
#endif
#ifdef VERIFY_ECDSA
    case ECDSA:
        return verify_ecdsa(request);
#endif
    default:
        return UNKNOWN_KIND;
    }
}

static enum status read_message(const uint8_t *payload, uint32_t length, struct request *request)
{
    struct reader reader = {payload, payload + length, 0};
    struct span kind = {NULL, 0};
    unsigned seen = 0;
    uint32_t entries = read_map(&reader);
    if (reader.failed || entries != 4)
        return BAD_REQUEST;
    while (entries-- > 0) {
        struct span name = read_text(&reader, 0);
        struct span value = read_text(&reader, 1);
        if (reader.failed)
            return BAD_REQUEST;
        if (is_text(name, "kind"))
            kind = value, seen |= 1;
        else if (is_text(name, "public_key"))
            request->public_key = value, seen |= 2;
        else if (is_text(name, "signature"))
            request->signature = value, seen |= 4;
        else if (is_text(name, "message"))
            request->message = value, seen |= 8;
    }
    if (seen != 15 || reader.next != reader.end)
        return BAD_REQUEST;
    request->kind = is_text(kind, "schnorr") ? SCHNORR : is_text(kind, "ecdsa") ? ECDSA : NO_KIND;
    return VALID;
}

static void verify_message(const uint8_t *payload, uint32_t length)
{
    struct request request;
    uint8_t answer[64], *end = answer;
    enum status status = read_message(payload, length, &request);
    if (status == VALID)
        status = verify(&request);
    const char *text = status_texts[status];
    uint32_t text_length = strlen(text);
    memcpy(end, "\x82\xa5valid", 7), end += 7;
    *end++ = status == VALID ? 0xc3 : 0xc2;
    memcpy(end, "\xa6status", 7), end += 7;
    *end++ = 0xa0 | text_length;
    memcpy(end, text, text_length), end += text_length;
    wapc_guest_response(answer, end - answer);
}

static uint32_t little_endian(const uint8_t *bytes, int count)
{
    uint32_t value = 0;
    while (count-- > 0)
        value = value << 8 | bytes[count];
    return value;
}

/* The answer is written over the requests: a byte for each, and each takes more. */
static int verify_batch(uint8_t *payload, uint32_t length)
{
    struct reader reader = {payload, payload + length, 0};
    uint8_t *answer = payload;
    while (reader.next < reader.end) {
        struct span head = read_span(&reader, 8);
        if (reader.failed)
            return 0;
        struct request request = {.kind = head.start[0]};
        request.public_key = read_span(&reader, head.start[1]);
        request.signature = read_span(&reader, little_endian(head.start + 2, 2));
        request.message = read_span(&reader, little_endian(head.start + 4, 4));
        if (reader.failed)
            return 0;
        *answer++ = verify(&request);
    }
    wapc_guest_response(payload, answer - payload);
    return 1;
}

static int fail(const char *text)
{
    wapc_guest_error((const uint8_t *)text, strlen(text));
    return 0;
}

/* Operation and payload go where the heap would begin: there is none, and nothing that a call would have to give back. */
extern uint8_t __heap_base;

__attribute__((export_name("__guest_call"))) int32_t guest_call(uint32_t operation_length, uint32_t payload_length)
{
    uint8_t *operation = &__heap_base, *payload;
    uint64_t end = (uint64_t)(uintptr_t)operation + operation_length + payload_length;
    uint64_t size = (uint64_t)__builtin_wasm_memory_size(0) << 16;
    if (end > UINT32_MAX)
        return fail("the request does not fit in memory");
    if (end > size && __builtin_wasm_memory_grow(0, (end - size + 0xffff) >> 16) == (size_t)-1)
        return fail("the request does not fit in memory");
    payload = operation + operation_length;
    wapc_guest_request(operation, payload);
    struct span name = {operation, operation_length};
    if (is_text(name, "verify_message")) {
        verify_message(payload, payload_length);
        return 1;
    }
    if (is_text(name, "verify_batch"))
        return verify_batch(payload, payload_length) || fail("the batch ends in the middle of a message");
    return fail("the operations are verify_message and verify_batch");
}
