/* What can be said of a signed message. The numbers are the answer of a batch, the texts that of a single message. */
#ifndef STATUS_H
#define STATUS_H

enum status {
    VALID = 0,
    INVALID = 1,           /* the signature is not of this message by this key */
    BAD_KEY = 2,           /* the public key has a wrong length, or is no point of the curve */
    BAD_SIGNATURE = 3,     /* the signature has a wrong length or, of ECDSA, is not DER */
    BAD_REQUEST = 4,       /* the request is not a map of the four entries */
    UNKNOWN_KIND = 5,      /* neither kind of signature, or one that this module does not know */
};

static const char *const status_texts[] = {
    "valid", "invalid", "bad public key", "bad signature", "bad request", "unknown kind",
};

#endif
