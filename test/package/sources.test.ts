/** Rules about the source tree that no compiler knows: where imports go, what an index is, names and sizes of files. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LAYERS, MAY_IMPORT, NODE_LAYERS } from '../build/layer-table.ts';

const ROOT = join(import.meta.dirname, '../..');
const SRC = join(ROOT, 'src');
/** Below these, Node is not there: the same code runs in a browser's worker. */
const CORE = LAYERS.filter((layer) => !NODE_LAYERS.includes(layer));
/** Packages that a core layer may import: Node 20 cannot read zstd, and traces may be compressed with it. */
const CORE_PACKAGES: Readonly<Record<string, readonly string[]>> = { trace: ['fzstd'] };

/** All files below a folder with one of the endings, as paths from it; empty when the folder is not there. */
function filesBelow(folder: string, ...endings: readonly string[]): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .toSorted();
}

/** The module specifiers of a source text: static, dynamic, re-exports, types. Comments do not count. */
function specifiers(text: string): string[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '');
  return [...code.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map(([, specifier]) => specifier);
}

const sources = filesBelow(SRC, '.ts').map((name) => ({ name, text: readFileSync(join(SRC, name), 'utf8') }));

/** Names the files that break a rule, with what breaks it. */
function offenders(find: (source: { name: string; text: string }) => readonly string[]): string[] {
  return sources.flatMap((source) => find(source).map((what) => `src/${source.name}: ${what}`));
}

test('the reader of imports sees every form', () => {
  const text = `
    import a from './a.ts'; import type { B } from './b.ts';
    import {
      c,
    } from './c.ts';
    export { d } from './d.ts'; export type { E } from './e.ts';
    import './f.ts'; const g = await import('./g.ts');
    // import './no.ts';
    /* from './no.ts' */`;
  expect(specifiers(text)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts', './f.ts', './g.ts']);
});

describe('imports', () => {
  const crossing = sources.flatMap(({ name, text }) =>
    specifiers(text)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => ({
        name,
        from: name.split('/')[0],
        target: relative(SRC, join(SRC, name, '..', specifier)),
      }))
      .filter(({ from, target }) => target.split('/')[0] !== from),
  );

  test('go to a layer that layer-table.ts allows', () => {
    const wrong = crossing.filter(({ from, target }) => !MAY_IMPORT[from].includes(target.split('/')[0]));
    expect(wrong.map(({ name, target }) => `src/${name} -> ${target}`)).toEqual([]);
  });

  test('never lead from hw to drivers, pt, iommu or dma, nor back', () => {
    const software = ['drivers', 'pt', 'iommu', 'dma', 'vfio'];
    const wrong = crossing.filter(({ from, target }) => {
      const to = target.split('/')[0];
      return (from === 'hw' && software.includes(to)) || (to === 'hw' && software.includes(from));
    });
    expect(wrong.map(({ name, target }) => `src/${name} -> ${target}`)).toEqual([]);
  });

  test('of another layer go to its index and not past it', () => {
    const wrong = crossing.filter(({ target }) => !/^\w+\/index\.ts$/.test(target));
    expect(wrong.map(({ name, target }) => `src/${name} -> ${target}`)).toEqual([]);
  });
});

describe('each layer', () => {
  test.each(LAYERS.filter((layer) => layer !== 'cli'))(
    '%s has an index of explicit names, 60 lines at most',
    (layer) => {
      const text = readFileSync(join(SRC, layer, 'index.ts'), 'utf8');
      expect(text.split('\n').length - 1).toBeLessThanOrEqual(60);
      // `export * as name` gives one name; `export *` hides how many.
      expect(text.match(/export\s+\*(?!\s+as\s)/g)).toBeNull();
      const rest = text
        .replaceAll(/\/\*[\s\S]*?\*\//g, '')
        .replaceAll(/\/\/.*$/gm, '')
        .replaceAll(/export (type )?\{[^}]*\} from '[^']+';/g, '')
        .replaceAll(/export \* as \w+ from '[^']+';/g, '');
      expect(rest.trim()).toBe('');
    },
  );

  test('is in the root tsconfig.json', () => {
    const text = readFileSync(join(ROOT, 'tsconfig.json'), 'utf8');
    expect(LAYERS.filter((layer) => !text.includes(`"src/${layer}"`))).toEqual([]);
  });
});

describe('files', () => {
  test('have 600 lines at most', () => {
    expect(
      offenders(({ text }) => {
        const nrLines = text.split('\n').length - 1;
        return nrLines > 600 ? [`${nrLines} lines`] : [];
      }),
    ).toEqual([]);
  });

  test('are named after what they hold', () => {
    const vague = /(^|\/)(utils?|helpers?|common|misc|types)\.ts$/;
    expect(offenders(({ name }) => (vague.test(name) ? ['says nothing'] : []))).toEqual([]);
  });

  test('of drivers, and of what runs on them, know no emulator', () => {
    const software = /^(drivers|pt|iommu|dma|vfio)\//;
    expect(
      offenders(({ name, text }) => (software.test(name) ? (text.match(/.*(qemu|qtest).*/gi) ?? []) : [])),
    ).toEqual([]);
  });
});

describe('what was built', () => {
  test.each(CORE)('%s needs nothing of Node and no package', (layer) => {
    const folder = join(ROOT, 'dist', layer);
    const files = filesBelow(folder, '.js', '.d.ts');
    expect(files).toContain('index.js');
    const foreign = files.flatMap((name) =>
      specifiers(readFileSync(join(folder, name), 'utf8'))
        .filter((specifier) => !specifier.startsWith('.') && !(CORE_PACKAGES[layer] ?? []).includes(specifier))
        .map((specifier) => `dist/${layer}/${name}: ${specifier}`),
    );
    expect(foreign).toEqual([]);
  });
});
