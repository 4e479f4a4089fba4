/** Light, dark, or as the system says. Kept in the browser, not in the address: it is the reader's, not the state's. */
import { signal } from '@preact/signals';
import type { JSX } from 'preact';

const THEMES = ['system', 'light', 'dark'] as const;
type Theme = (typeof THEMES)[number];

const KEY = 'iommukit-theme';

/** A page from disk may have no storage at all; then the choice lasts as long as the page. */
function stored(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    return 'system';
  }
}

const theme = signal<Theme>(stored());

function choose(next: Theme): void {
  theme.value = next;
  document.documentElement.dataset['theme'] = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // As above.
  }
}

document.documentElement.dataset['theme'] = theme.value;

export function ThemeSwitch(): JSX.Element {
  return (
    <label class="theme-switch">
      Theme{' '}
      <select
        value={theme.value}
        onChange={(event) => choose(THEMES.find((known) => known === event.currentTarget.value) ?? 'system')}
      >
        {THEMES.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
