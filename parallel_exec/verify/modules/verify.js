// The same verification as verify.c's, in JavaScript's own arithmetic: what a plugin costs that is no WebAssembly.
//
// verify_message({kind, public_key, signature, message}), the last three in hexadecimal, returns {valid, status} with
// the texts of status.h; verify_batch(messages) returns an array of these.

const P = 2n ** 256n - 2n ** 32n - 977n;
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const MASK = (1n << 256n) - 1n;
const FOLD = 2n ** 32n + 977n; // 2^256 modulo P
const G = {
    x: 0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
    y: 0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
    z: 1n,
};
const INFINITY = { x: 1n, y: 1n, z: 0n };

function reduce(value) { // of a product of two reduced numbers
    value = (value >> 256n) * FOLD + (value & MASK);
    value = (value >> 256n) * FOLD + (value & MASK);
    return value >= P ? value - P : value;
}

function positive(value, modulus) {
    value %= modulus;
    return value < 0n ? value + modulus : value;
}

function invert(value, modulus) {
    let [a, b, x, y] = [positive(value, modulus), modulus, 1n, 0n];
    while (a > 1n) {
        const quotient = b / a;
        [a, b, x, y] = [b - quotient * a, a, y - quotient * x, x];
    }
    return positive(x, modulus);
}

function power(base, exponent) {
    let result = 1n;
    for (const bit of exponent.toString(2)) {
        result = reduce(result * result);
        if (bit === "1") result = reduce(result * base);
    }
    return result;
}

// Points are Jacobian: (x / z^2, y / z^3), and z is 0 at infinity.

function double(p) {
    if (p.z === 0n || p.y === 0n) return INFINITY;
    const a = reduce(p.x * p.x), b = reduce(p.y * p.y), c = reduce(b * b);
    const d = positive(4n * p.x * b, P), e = 3n * a, x = positive(e * e - 2n * d, P);
    return { x, y: positive(e * (d - x) - 8n * c, P), z: positive(2n * p.y * p.z, P) };
}

function add(p, q) {
    if (p.z === 0n) return q;
    if (q.z === 0n) return p;
    const pz = reduce(p.z * p.z), qz = reduce(q.z * q.z);
    const u = reduce(p.x * qz), s = reduce(p.y * reduce(qz * q.z));
    const h = positive(q.x * pz - u, P), r = positive(q.y * reduce(pz * p.z) - s, P);
    if (h === 0n) return r === 0n ? double(p) : INFINITY;
    const hh = reduce(h * h), hhh = reduce(h * hh), v = reduce(u * hh);
    const x = positive(r * r - hhh - 2n * v, P);
    return { x, y: positive(r * (v - x) - s * hhh, P), z: reduce(reduce(p.z * q.z) * h) };
}

function table(point) { // its multiples from 0 to 15
    const multiples = [INFINITY, point];
    while (multiples.length < 16) multiples.push(add(multiples[multiples.length - 1], point));
    return multiples;
}

const G_TABLE = table(G); // in the plugin's image: no job computes it

function combine(a, b, point) { // a G + b point
    const multiples = table(point);
    const [g, p] = [a, b].map(number => number.toString(16).padStart(64, "0"));
    let result = INFINITY;
    for (let i = 0; i < 64; i++) {
        if (i) result = double(double(double(double(result))));
        result = add(result, G_TABLE[parseInt(g[i], 16)]);
        result = add(result, multiples[parseInt(p[i], 16)]);
    }
    return result;
}

function affine(point) {
    const inverse = invert(point.z, P), square = reduce(inverse * inverse);
    return { x: reduce(point.x * square), y: reduce(point.y * reduce(square * inverse)) };
}

function lift(x, odd) { // the point of this x, or null
    if (x >= P) return null;
    const square = positive(x * x * x + 7n, P), y = power(square, (P + 1n) / 4n);
    if (reduce(y * y) !== square) return null;
    return { x, y: (y & 1n) === (odd ? 1n : 0n) ? y : P - y, z: 1n };
}

// SHA-256

const ROUND = [], START = [];
for (let n = 2; ROUND.length < 64; n++) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= n; divisor++) prime = prime && n % divisor !== 0;
    if (!prime) continue;
    if (START.length < 8) START.push(fraction(Math.sqrt(n)));
    ROUND.push(fraction(Math.cbrt(n)));
}

function fraction(number) {
    return Math.floor((number - Math.floor(number)) * 2 ** 32) | 0;
}

function sha256(bytes) {
    const length = bytes.length, padded = new Uint8Array((length + 72) >> 6 << 6);
    padded.set(bytes);
    padded[length] = 0x80;
    const view = new DataView(padded.buffer), words = new Int32Array(64), state = Int32Array.from(START);
    view.setUint32(padded.length - 8, Math.floor(length / 2 ** 29));
    view.setUint32(padded.length - 4, length << 3);
    const rotate = (word, by) => word >>> by | word << (32 - by);
    for (let block = 0; block < padded.length; block += 64) {
        for (let i = 0; i < 16; i++) words[i] = view.getInt32(block + 4 * i);
        for (let i = 16; i < 64; i++) {
            const low = words[i - 15], high = words[i - 2];
            words[i] = words[i - 16] + (rotate(low, 7) ^ rotate(low, 18) ^ low >>> 3)
                + words[i - 7] + (rotate(high, 17) ^ rotate(high, 19) ^ high >>> 10);
        }
        let [a, b, c, d, e, f, g, h] = state;
        for (let i = 0; i < 64; i++) {
            const first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (e & f ^ ~e & g) + ROUND[i] + words[i] | 0;
            const second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
            [h, g, f, e, d, c, b, a] = [g, f, e, d + first | 0, c, b, a, first + second | 0];
        }
        [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
    }
    const digest = new DataView(new ArrayBuffer(32));
    state.forEach((word, i) => digest.setInt32(4 * i, word));
    return new Uint8Array(digest.buffer);
}

// Bytes

function bytes_of(hex) {
    const bytes = new Uint8Array(hex.length >> 1);
    for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(hex.substr(2 * i, 2), 16);
    return bytes;
}

const hex_of = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
const number_of = hex => BigInt("0x" + (hex || "0"));
const is_hex = text => typeof text === "string" && text.length % 2 === 0 && !/[^0-9a-f]/.test(text);
const TAG = hex_of(sha256(Uint8Array.from("BIP0340/challenge", letter => letter.charCodeAt(0))));

function verify_schnorr(key, signature, message) {
    const point = key.length === 64 ? lift(number_of(key), false) : null;
    if (!point) return "bad public key";
    if (signature.length !== 128) return "bad signature";
    const r = number_of(signature.slice(0, 64)), s = number_of(signature.slice(64));
    if (r >= P || s >= N) return "invalid";
    const challenge = number_of(hex_of(sha256(bytes_of(TAG + TAG + signature.slice(0, 64) + key + message)))) % N;
    const found = combine(s, challenge ? N - challenge : 0n, point);
    if (found.z === 0n) return "invalid";
    const { x, y } = affine(found);
    return x === r && (y & 1n) === 0n ? "valid" : "invalid";
}

function ecdsa_key(key) {
    const head = key.slice(0, 2), x = number_of(key.slice(2, 66));
    if (key.length === 66 && (head === "02" || head === "03")) return lift(x, head === "03");
    if (key.length !== 130 || !["04", "06", "07"].includes(head)) return null;
    const y = number_of(key.slice(66));
    const point = y < P ? lift(x, (y & 1n) === 1n) : null;
    return point && point.y === y && (head === "04" || (head === "07") === ((y & 1n) === 1n)) ? point : null;
}

// The two integers of a signature in DER; of one that is negative or too large 0, which verifies nothing. Or null.
function der_of(hex) {
    const bytes = bytes_of(hex);
    let at = 0;
    const length = () => {
        const first = bytes[at++];
        if (first === undefined || first < 0x80) return first;
        const count = first & 0x7f;
        if (first === 0x80 || first === 0xff || at + count > bytes.length || bytes[at] === 0) return undefined;
        let value = 0;
        for (let i = 0; i < count; i++) value = value * 256 + bytes[at++];
        return value < 128 ? undefined : value;
    };
    const integer = () => {
        if (bytes[at++] !== 0x02) return null;
        const size = length();
        if (!size || at + size > bytes.length) return null;
        const [first, second] = [bytes[at], bytes[at + 1]];
        if (size > 1 && (first === 0 && second < 0x80 || first === 0xff && second >= 0x80)) return null;
        const value = number_of(hex.substr(2 * at, 2 * size));
        at += size;
        return first >= 0x80 || value >= N ? 0n : value;
    };
    if (bytes[at++] !== 0x30 || length() !== bytes.length - at) return null;
    const r = integer(), s = r === null ? null : integer();
    return s === null || at !== bytes.length ? null : { r, s };
}

function verify_ecdsa(key, signature, message) {
    const point = ecdsa_key(key);
    if (!point) return "bad public key";
    const numbers = der_of(signature);
    if (!numbers) return "bad signature";
    const { r, s } = numbers;
    if (r === 0n || s === 0n || s > N >> 1n) return "invalid";
    const digest = number_of(hex_of(sha256(bytes_of(message)))), inverse = invert(s, N);
    const found = combine(digest * inverse % N, r * inverse % N, point);
    return found.z !== 0n && affine(found).x % N === r ? "valid" : "invalid";
}

function verify(request) {
    if (typeof request !== "object" || request === null || Object.keys(request).length !== 4) return "bad request";
    const { kind, public_key, signature, message } = request;
    if (typeof kind !== "string" || ![public_key, signature, message].every(is_hex)) return "bad request";
    if (kind === "schnorr") return verify_schnorr(public_key, signature, message);
    return kind === "ecdsa" ? verify_ecdsa(public_key, signature, message) : "unknown kind";
}

export function verify_message(request) {
    const status = verify(request);
    return { valid: status === "valid", status };
}

export function verify_batch(requests) {
    return requests.map(verify_message);
}
