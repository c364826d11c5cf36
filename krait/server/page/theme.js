// Light or dark: as the system has it, or as it was chosen here.
const ORDER = ['system', 'light', 'dark'];
const SIGNS = {system: '◐', light: '☀', dark: '☾'};
const WORDS = {system: 'as the system has them', light: 'light', dark: 'dark'};
const KEY = 'krait.colours';

function show(button, choice) {
  if (choice === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  button.textContent = SIGNS[choice];
  button.setAttribute('aria-label', `Colours: ${WORDS[choice]}`);
  button.title = button.getAttribute('aria-label');
}

export function startTheme(button) {
  let choice = localStorage.getItem(KEY);
  if (!ORDER.includes(choice)) choice = 'system';
  show(button, choice);
  button.addEventListener('click', () => {
    choice = ORDER[(ORDER.indexOf(choice) + 1) % ORDER.length];
    localStorage.setItem(KEY, choice);
    show(button, choice);
  });
}
