// What the reader set: read from the fields of the dialog when a reply begins.
import {byId} from './dom.js';

function numberOf(id, otherwise) {
  const value = byId(id).valueAsNumber;
  return Number.isFinite(value) ? value : otherwise;
}

export function readSettings(mostTokens) {
  return {
    temperature: numberOf('temperature', 0.8),
    maxTokens: Math.max(1, Math.min(Math.trunc(numberOf('max-tokens', 200)), mostTokens)),
    seed: byId('seed').value === '' ? null : Math.trunc(numberOf('seed', 0)),
    how: document.querySelector('input[name=how]:checked').value,
  };
}

export function startSettings(systemChanged) {
  byId('settings-open').addEventListener('click', () => byId('settings').showModal());
  byId('system').addEventListener('input', () => systemChanged(byId('system').value));
}
