/** The reader of code blocks itself. */
import { describe, expect, test } from 'vitest';
import { blocksOf, commandsOf, matches } from './blocks.ts';

describe('blocksOf', () => {
  test('finds language, words, text and line', () => {
    const markdown = [
      '# x',
      '',
      '```sh exit=1',
      '$ a',
      '```',
      '',
      '```ts no-run',
      'b',
      'c',
      '```',
      '```',
      'd',
      '```',
    ].join('\n');
    expect(blocksOf(markdown)).toEqual([
      { language: 'sh', words: ['exit=1'], text: '$ a', line: 3 },
      { language: 'ts', words: ['no-run'], text: 'b\nc', line: 7 },
      { language: '', words: [], text: 'd', line: 11 },
    ]);
  });

  test('a longer fence holds shorter ones', () => {
    expect(blocksOf('````md\n```sh\n$ a\n```\n````')).toEqual([
      { language: 'md', words: [], text: '```sh\n$ a\n```', line: 1 },
    ]);
  });

  test('an open block is an error, with its line', () => {
    expect(() => blocksOf('a\n```ts\nb')).toThrow('line 2');
  });
});

describe('commandsOf', () => {
  test('splits commands and outputs', () => {
    expect(commandsOf('$ a \\\n  -b\n$ c\none\n\ntwo\n')).toEqual([
      { command: 'a \\\n  -b', output: undefined },
      { command: 'c', output: 'one\n\ntwo' },
    ]);
  });

  test('text before the first command is an error', () => {
    expect(() => commandsOf('npm start')).toThrow('npm start');
  });
});

test.each([
  ['a\nb\n', 'a\nb', true],
  ['a  \nb\n\n', 'a\nb', true],
  ['a\nb\n', 'a', false],
  ['a\nb\nc\n', 'a\n...\nc', true],
  ['a\nc\n', 'a\n...\nc', true],
  ['a\nb\nd\n', 'a\n...\nc', false],
  ['x\ny\n', '...', true],
  ['took 31 ms (of 2)\n', 'took ... ms (of 2)', true],
  ['took 31 ms (of 3)\n', 'took ... ms (of 2)', false],
  ['1x2\n', '1.2', false],
  ['a\nb\nc\n', 'a\n...', true],
])('output %j against %j: %s', (real, shown, expected) => {
  expect(matches(real, shown)).toBe(expected);
});
