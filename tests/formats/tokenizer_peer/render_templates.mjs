// node render_templates.mjs cases.json renderings.json
// Reads [{"template": text, "variables": {…}}, …]; writes [{"text": …} or {"error": …}, …].
import {readFileSync, writeFileSync} from 'node:fs';

import {Template} from '@huggingface/jinja';

function render({template, variables}) {
  try {
    return {text: new Template(template).render(variables)};
  } catch (error) {
    return {error: String(error.message)};
  }
}

const [casesPath, renderingsPath] = process.argv.slice(2);
const cases = JSON.parse(readFileSync(casesPath, 'utf8'));
writeFileSync(renderingsPath, JSON.stringify(cases.map(render)));
