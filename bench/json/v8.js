// V8's part of bench/json: answers requests, one JSON text a line, with the microseconds that each call took.
'use strict';
const fs = require('fs');

let text = '';
const actions = {
  parse: () => {
    const start = process.hrtime.bigint();
    JSON.parse(text);
    return process.hrtime.bigint() - start;
  },
  stringify: () => {
    const value = JSON.parse(text);
    const start = process.hrtime.bigint();
    JSON.stringify(value);
    return process.hrtime.bigint() - start;
  },
  'round trip': () => {
    const start = process.hrtime.bigint();
    JSON.stringify(JSON.parse(text));
    return process.hrtime.bigint() - start;
  },
};

function answer({ load, action, count }) {
  if (load !== undefined) {
    text = fs.readFileSync(load, 'utf8');
    return process.versions.v8;
  }
  const times = [];
  for (let i = 0; i < count; i++) times.push(Number(actions[action]()) / 1e3);
  return times;
}

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + '\n');
});
