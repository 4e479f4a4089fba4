/** Tables for people: a rule under the head, nothing else. */
import Table from 'cli-table3';

const CHARS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** @param nrLeft columns that hold words and are aligned to the left, from the first one on; the others hold numbers */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[], nrLeft: number = 2): string {
  const made = new Table({
    head: [...head],
    chars: CHARS,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: head.map((_, column) => (column < nrLeft ? 'left' : 'right')),
    rowAligns: ['bottom'],
  });
  for (const row of rows) made.push([...row]);
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 event`, `2 events`; the plural where it is not the singular with an s. */
export function counted(value: number, one: string, many: string = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
