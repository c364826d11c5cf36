// node encode_lines.mjs tokenizer.json lines.jsonl ids.jsonl
// Reads one JSON string per line; writes one line per text: {"ids": […]}.
import {readFileSync, writeFileSync} from 'node:fs';

import {Tokenizer} from '@huggingface/tokenizers';

const [tokenizerPath, linesPath, idsPath] = process.argv.slice(2);
const tokenizer = new Tokenizer(JSON.parse(readFileSync(tokenizerPath, 'utf8')), {});
const lines = readFileSync(linesPath, 'utf8').split('\n').filter((line) => line.length > 0);
const answers = lines.map((line) => {
  const ids = tokenizer.encode(JSON.parse(line), {add_special_tokens: false}).ids;
  return JSON.stringify({ids: Array.from(ids, Number)});
});
writeFileSync(idsPath, answers.join('\n') + '\n');
