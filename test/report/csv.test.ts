/** CSV by hand: quoting as RFC 4180 says, and a row per thing that was found. */
import { describe, expect, test } from 'vitest';
import type { AuditReport } from '../../src/report/index.ts';
import { auditCsv } from '../../src/report/index.ts';

type Findings = AuditReport['findings'];

/** Reads RFC 4180, section 2, character by character. */
function parsed(text: string): string[][] {
  const rows: string[][] = [[]];
  let cell = '';
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (text[at + 1] === '"') cell += text[++at];
      else isQuoted = false;
    } else if (character === '"') isQuoted = true;
    else if (character === ',' || character === '\r') {
      rows.at(-1)?.push(cell);
      cell = '';
      if (character === ',') continue;
      if (text[++at] !== '\n') throw new Error('a line that ends in CR alone');
      rows.push([]);
    } else cell += character;
  }
  if (cell !== '' || rows.pop()?.length !== 0) throw new Error('the last line does not end');
  return rows;
}

describe('audit', () => {
  const csvOf = (findings: readonly object[]): string[][] =>
    parsed(auditCsv({ findings: findings as unknown as Findings } as AuditReport));

  test('no finding: the names alone', () => {
    expect(csvOf([])).toEqual([['contract', 'line', 'iova', 'domain', 'detail']]);
  });

  test.each(['plain', 'a, b', 'say "x"', 'two\r\nlines', '', '=1+1'])('%j comes back as it was', (detail) => {
    const finding = { contract: 'C-UNMAP-GONE', line: 7, iova: '0xfffff000', domain: null, detail };
    expect(csvOf([finding, finding])[2]).toEqual(['C-UNMAP-GONE', '7', '0xfffff000', '', detail]);
  });
});
