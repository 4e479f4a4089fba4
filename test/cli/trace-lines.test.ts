/** Lines picked out of a text, however it is cut into chunks. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { linesAt } from '../../src/cli/trace-lines.ts';

async function* chunks(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array, void, void> {
  let at = 0;
  for (const size of sizes) {
    yield await Promise.resolve(bytes.subarray(at, at + size));
    at += size;
  }
  yield bytes.subarray(at);
}

it('are those of split, without what ends a line', async () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'ü', '線', '<', '\t', 'b'), maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 8 }),
      fc.constantFrom('\n', '\r\n'),
      fc.array(fc.nat(10)),
      fc.uniqueArray(fc.integer({ min: 1, max: 10 })),
      async (lines, end, sizes, wanted) => {
        const found = await linesAt(chunks(new TextEncoder().encode(lines.join(end)), sizes), new Set(wanted));
        const expected = wanted
          .toSorted((a, b) => a - b)
          .flatMap((number) =>
            lines[number - 1] === undefined ? [] : [{ line: number, text: lines[number - 1].trimEnd() }],
          );
        // A text that ends with a line end has no further line.
        expect(found.filter(({ text }) => text !== '')).toEqual(expected.filter(({ text }) => text !== ''));
      },
    ),
  );
});

it('are cut when they are long', async () => {
  const text = `first\n${'x'.repeat(5000)}\nlast\n`;
  const found = await linesAt(chunks(new TextEncoder().encode(text), [100, 100, 3000]), new Set([2, 3]));
  expect(found).toEqual([
    { line: 2, text: 'x'.repeat(1000) },
    { line: 3, text: 'last' },
  ]);
});
