// What the tests of our JSON run in the sandbox. The engine's own JSON is the oracle: a reviver makes JSON.parse the
// engine's, a replacer function makes JSON.stringify the engine's.

const own = {
  parse: (text) => JSON.parse(text, (_key, value) => value),
  stringify: (value) => JSON.stringify(value, (_key, value) => value),
};
const { getPrototypeOf, isExtensible, getOwnPropertyDescriptor, is } = Object;
const { ownKeys } = Reflect;

function attempt(read, text) {
  try {
    return { value: read(text) };
  } catch (error) {
    return { error: `${error.name}` };
  }
}

// Where two values differ, or "" if they are alike in everything that a plugin could see.
function difference(ours, theirs) {
  const pairs = [[ours, theirs, '$']];
  while (pairs.length) {
    const [a, b, path] = pairs.pop();
    if (typeof a !== typeof b) return `${path}: ${typeof a}, not ${typeof b}`;
    if (typeof a !== 'object' || a === null || b === null) {
      if (!is(a, b)) return `${path}: ${String(a)}, not ${String(b)}`;
      continue;
    }
    if (getPrototypeOf(a) !== getPrototypeOf(b)) return `${path}: another prototype`;
    if (Array.isArray(a) !== Array.isArray(b)) return `${path}: an array and an object`;
    if (isExtensible(a) !== isExtensible(b)) return `${path}: extensible?`;
    const keys = ownKeys(a), theirKeys = ownKeys(b);
    if (keys.length !== theirKeys.length) return `${path}: ${keys.length} keys, not ${theirKeys.length}`;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (key !== theirKeys[i]) return `${path}: key ${String(key)}, not ${String(theirKeys[i])}`;
      const p = getOwnPropertyDescriptor(a, key), q = getOwnPropertyDescriptor(b, key);
      if (p.writable !== q.writable || p.enumerable !== q.enumerable || p.configurable !== q.configurable ||
          p.get !== q.get || p.set !== q.set)
        return `${path}.${key}: another kind of property`;
      pairs.push([p.value, q.value, `${path}.${key}`]);
    }
  }
  return '';
}

// A text with every number in it as its bits. The engine does not write the fewest digits of some powers of two (2 ** -24 as
// 5.9604644775390625e-8); ours does, as ECMA-262 and V8 have it, and test_numbers.py holds it to that.
const token = /"(?:[^"\\]|\\.)*"|-?\d[-+.\de]*/g;
const exact = (text) => text.replace(token, (part) => part[0] === '"' ? part : bits([Number(part)]));

// Change the objects of a value in ways that must not reach the next object that is read with the same keys.
function meddle(value) {
  const todo = [value];
  for (let i = 0; i < todo.length && i < 200; i++) {
    const object = todo[i];
    if (typeof object !== 'object' || object === null) continue;
    const keys = Object.keys(object);
    for (const key of keys) todo.push(object[key]);
    switch (i % 6) {
      case 0: object.added = i; break;
      case 1: delete object[keys[0]]; break;
      case 2: Object.freeze(object); break;
      case 3: if (!Array.isArray(object)) Object.setPrototypeOf(object, null); break;
      case 4: for (const key of keys) if (typeof object[key] === 'string') object[key] += 'x'; break;
      case 5: if (keys.length && !Array.isArray(object)) Object.defineProperty(object, keys[0], { get: () => 1 }); break;
    }
  }
}

// Read each text in turn with both parsers: [index, what differs] of those that are not read alike.
function compareReading(texts) {
  const found = [];
  for (let i = 0; i < texts.length; i++) {
    const ours = attempt(JSON.parse, texts[i]), theirs = attempt(own.parse, texts[i]);
    let what = '';
    if (ours.error !== theirs.error) {
      what = `${ours.error ?? 'accepted'}, not ${theirs.error ?? 'accepted'}`;
    } else if (ours.error === undefined) {
      what = difference(ours.value, theirs.value);
      if (!what) {
        const text = JSON.stringify(ours.value), engine = own.stringify(theirs.value);
        if (text !== engine && exact(text) !== exact(engine)) what = `written ${text}, not ${engine}`;
      }
      if (!what) meddle(ours.value);
    }
    if (what) found.push([i, what]);
  }
  return found;
}

// The same for a document: what the sandbox has read, and its text for the engine's parser.
function compareDocument({ document, text }) {
  return difference(document, own.parse(text));
}

// Writing. The source is a JavaScript expression; what its value does when it is looked at, it tells in `log`. Each of these
// is one job, so nothing that the expression changes reaches the next.
const log = [];
const indirectEval = eval, { String: asText, JSON: json } = globalThis, { join } = Array.prototype;
const call = Function.prototype.call.bind(Function.prototype.call);
const engineStringify = json.stringify;

function written(write, source) {
  let text;
  try {
    const value = indirectEval(`(${source})`);
    const result = write(value);
    text = result === undefined ? 'undefined' : 'text ' + result;
  } catch (error) {
    text = error instanceof Error ? 'throws ' + error.name + ': ' + error.message : 'throws ' + typeof error;
  }
  return text + '\n' + call(join, log, ';');
}
const writeOurs = (source) => written((value) => engineStringify(value), source);
const writeOwn = (source) => written((value) => engineStringify(value, (_key, value) => value), source);
const makeValue = (source) => indirectEval(`(${source})`);

// Numbers.
const bits = (numbers) => {
  const words = new BigUint64Array(Float64Array.from(numbers).buffer);
  let text = '';
  for (const word of words) text += word.toString(16).padStart(16, '0');
  return text;
};
const identity = (value) => value;
// Those that are not written as the engine writes a number.
const compareNumbers = (numbers) => numbers.filter((number) => JSON.stringify([number]) !== `[${String(number)}]`).map(String);

// Limits.
const size = (value) => Object.keys(value).length;
const loop = () => ({ get a() { for (;;); } });
const swallowing = () => ({ toJSON() { for (;;) try { for (;;); } catch { /* again */ } } });
const text = (count) => 'x'.repeat(count);
const wide = (count) => '\u20ac"'.repeat(count);
const many = (count) => Array.from({ length: count }, (_, i) => ({ i, name: 'name', half: i / 2 }));
const escaped = (count) => '\u0001'.repeat(count);
const outputLimit = () => {
  try {
    return JSON.stringify(many(300000)).length;
  } catch (error) {
    return error.name;
  }
};
const parseNested = ([count, open, close]) => {
  try {
    JSON.parse(open.repeat(count) + '1' + close.repeat(count));
    return 'read';
  } catch (error) {
    return error.name;
  }
};
const nest = (depth, object) => {
  let value = 1;
  for (let i = 0; i < depth; i++) value = object ? { a: value } : [value];
  return value;
};
const nestArrays = (depth) => nest(depth, false);
const nestObjects = (depth) => nest(depth, true);
const stringifyNested = ([depth, object]) => {
  try {
    return JSON.stringify(nest(depth, object)).length;
  } catch (error) {
    return error.name;
  }
};
