// node validate_lines.mjs LINES: each line is {"schema": …, "text": "…"}; prints "ok" or what is wrong with it.
import fs from 'node:fs';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

const ajv = new Ajv2020.default({strict: false, allErrors: false});
addFormats.default(ajv);
const compiled = new Map();

for (const line of fs.readFileSync(process.argv[2], 'utf8').split('\n')) {
  if (line === '') continue;
  const {schema, text} = JSON.parse(line);
  const key = JSON.stringify(schema);
  if (!compiled.has(key)) compiled.set(key, ajv.compile(schema));
  const validate = compiled.get(key);
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    console.log(`not JSON: ${error.message}`.replaceAll('\n', ' '));
    continue;
  }
  console.log(validate(value) ? 'ok' : JSON.stringify(validate.errors));
}
