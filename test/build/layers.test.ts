/**
 * The layering does not compile in the wrong direction. A tree of empty layers with the project's own tsconfig.json files gets
 * one probe file per pair of layers; `tsc -b` must reject exactly the probes that layer-table.ts does not allow. Empty layers,
 * so that one run of a second checks every pair and no unfinished source gets in the way. tsc follows references of
 * references: that an import goes to a layer of the table itself is what ../package/sources.test.ts adds.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LAYERS, MAY_IMPORT, NODE_LAYERS, reach } from './layer-table.ts';

const ROOT = join(import.meta.dirname, '../..');

/** What exists in Node or a browser only. cli alone runs in Node. */
const GLOBALS = ['process', 'Buffer', 'document', 'setTimeout', 'performance', 'require'];

let tree = '';
let rejected: ReadonlySet<string>;

/** Runs `tsc -b` in the tree; the files it names in errors, as `layer/file`. */
function build(): Set<string> {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { stdout } = spawnSync(process.execPath, [tsc, '-b', '--pretty', 'false'], { cwd: tree, encoding: 'utf8' });
  return new Set([...stdout.matchAll(/^src\/(\S+)\.ts\(\d+,\d+\): error /gm)].map(([, file]) => file));
}

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'iommukit-layers-'));
  for (const file of ['tsconfig.base.json', 'package.json']) cpSync(join(ROOT, file), join(tree, file));
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  const references = LAYERS.map((layer) => ({ path: `src/${layer}` }));
  writeFileSync(join(tree, 'tsconfig.json'), JSON.stringify({ files: [], references }));
  for (const layer of LAYERS) {
    mkdirSync(join(tree, 'src', layer), { recursive: true });
    cpSync(join(ROOT, 'src', layer, 'tsconfig.json'), join(tree, 'src', layer, 'tsconfig.json'));
    writeFileSync(join(tree, 'src', layer, 'index.ts'), 'export const here: number = 1;\n');
  }
});

afterAll(() => rmSync(tree, { recursive: true, force: true }));

test('the table names every layer there is, with the references that its tsconfig.json has', () => {
  const folders = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(LAYERS.toSorted()).toEqual(folders.map((entry) => entry.name).toSorted());
  for (const layer of LAYERS) {
    const text = readFileSync(join(ROOT, 'src', layer, 'tsconfig.json'), 'utf8');
    const references = [...text.matchAll(/"path":\s*"\.\.\/(\w+)"/g)].map(([, name]) => name);
    expect(references.toSorted(), `references of ${layer}`).toEqual(MAY_IMPORT[layer].toSorted());
  }
});

test('the empty layers compile', () => {
  expect(build()).toEqual(new Set());
});

test('with one import per pair of layers, exactly the wrong ones are rejected', () => {
  const wrong = new Set<string>();
  for (const from of LAYERS) {
    for (const to of LAYERS) {
      if (from === to) continue;
      // A type leaks as well as a value does. (tsc reports a foreign file once, so it is one form per pair.)
      const source =
        from === 'drivers'
          ? `import type { here } from '../${to}/index.ts';\nexport type There = typeof here;\n`
          : `import { here } from '../${to}/index.ts';\nexport const there: number = here;\n`;
      writeFileSync(join(tree, 'src', from, `to-${to}.ts`), source);
      if (!reach(from).has(to)) wrong.add(`${from}/to-${to}`);
    }
  }
  rejected = build();
  expect([...rejected].toSorted()).toEqual([...wrong].toSorted());
});

test.each([
  ['hw', 'drivers'],
  ['drivers', 'hw'],
  ['dma', 'hw'],
  ['base', 'mem'],
])('%s importing %s is among them', (from, to) => {
  expect(rejected).toContain(`${from}/to-${to}`);
});

test('what only Node or a browser has is rejected everywhere but in cli', () => {
  const probes = new Set<string>();
  for (const layer of LAYERS) {
    for (const name of GLOBALS) {
      // cli has Node's types; document is unknown there too.
      if (NODE_LAYERS.includes(layer) && name !== 'document') continue;
      writeFileSync(join(tree, 'src', layer, `global-${name}.ts`), `export const probe: unknown = ${name};\n`);
      probes.add(`${layer}/global-${name}`);
    }
    if (NODE_LAYERS.includes(layer)) continue;
    writeFileSync(
      join(tree, 'src', layer, 'node-fs.ts'),
      "import { existsSync } from 'node:fs';\nexport const probe: unknown = existsSync;\n",
    );
    probes.add(`${layer}/node-fs`);
  }
  const found = [...build()].filter((file) => /\/(global-|node-fs)/.test(file));
  expect(found.toSorted()).toEqual([...probes].toSorted());
});
