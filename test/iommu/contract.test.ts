/** The promises of DESIGN.md, "The contract", are those that the code's comments name, and no others. */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const ID = /\bC-[A-Z]+(?:-[A-Z]+)*\b/g;

function idsIn(text: string): Set<string> {
  return new Set(text.match(ID) ?? []);
}

const design = readFileSync(join(root, 'DESIGN.md'), 'utf8');
const listed = idsIn(
  design
    .split('\n')
    .filter((line) => line.startsWith('| C-'))
    .map((line) => line.split('|')[1] ?? '')
    .join('\n'),
);

test('every promise that DESIGN lists is owed by a callback of IommuOps', () => {
  const owed = idsIn(readFileSync(join(root, 'src/iommu/ops.ts'), 'utf8'));
  expect(listed.size).toBe(6);
  expect([...owed].toSorted()).toEqual([...listed].toSorted());
});

test('the layers above name no promise that DESIGN does not list', () => {
  for (const layer of ['iommu', 'dma', 'drivers/intel']) {
    const folder = join(root, 'src', layer);
    const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));
    const named = idsIn(files.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n'));
    expect(named.size, layer).toBeGreaterThan(0);
    for (const id of named) expect(listed).toContain(id);
  }
});
