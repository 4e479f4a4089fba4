/** Tells pictures, which do not follow style sheets, when the colours change. */

/** @returns stops it */
export function themeChanges(changed: () => void): () => void {
  const dark = globalThis.matchMedia('(prefers-color-scheme: dark)');
  const attribute = new MutationObserver(changed);
  attribute.observe(document.documentElement, { attributeFilter: ['data-theme'] });
  dark.addEventListener('change', changed);
  return () => {
    attribute.disconnect();
    dark.removeEventListener('change', changed);
  };
}
