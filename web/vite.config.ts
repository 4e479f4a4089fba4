/**
 * Two builds of the lab. `vite build web` leaves the static site in dist/web; `vite build web --mode report` then adds
 * dist/web/report.html, the same views as one file without a request of its own, which the commands fill with data
 * (`-o report.html`).
 */
import type { Plugin, UserConfig } from 'vite';
import { defineConfig } from 'vite';

/** Puts the one script and the one style sheet of the report build into its HTML, and drops their files. */
function oneFile(): Plugin {
  return {
    name: 'iommukit:one-file',
    enforce: 'post',
    generateBundle(_options, bundle) {
      const page = Object.values(bundle).find((part) => part.fileName.endsWith('.html'));
      if (page?.type !== 'asset') throw new Error('the report build has no HTML page');
      let html = String(page.source);
      for (const part of Object.values(bundle)) {
        if (part === page) continue;
        // A function as replacement: `$&` in minified code must not be read as a pattern.
        if (part.type === 'chunk') {
          const code = part.code.replaceAll('</script', String.raw`<\/script`);
          html = html
            .replace(/<script[^>]* src="[^"]*"[^>]*><\/script>/, '')
            .replace('</body>', () => `<script type="module">${code}</script>\n</body>`);
        } else {
          html = html.replace(/<link rel="stylesheet"[^>]*>/, () => `<style>${String(part.source)}</style>`);
        }
        delete bundle[part.fileName];
      }
      page.source = html;
    },
  };
}

export default defineConfig(({ mode }): UserConfig => {
  const isReport = mode === 'report';
  return {
    root: import.meta.dirname,
    // Relative addresses: the site works from any folder of any web server.
    base: './',
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    worker: { format: 'es' },
    plugins: isReport ? [oneFile()] : [],
    build: {
      outDir: '../dist/web',
      emptyOutDir: !isReport,
      target: 'es2022',
      // No source maps in a page that users mail to each other.
      sourcemap: !isReport,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
      rolldownOptions: {
        input: isReport ? 'web/report.html' : 'web/index.html',
        ...(isReport ? { output: { codeSplitting: false } } : {}),
      },
    },
  };
});
