/** Marks that say with a sign and a word what a colour says too. */
import type { JSX } from 'preact';
import type { Result } from '../../../src/lab/index.ts';

export type Tone = 'good' | 'bad' | 'warn' | 'plain';

const SIGNS: Readonly<Record<Tone, string>> = { good: '✓', bad: '✗', warn: '!', plain: '·' };

export function Mark({ tone, children }: { readonly tone: Tone; readonly children: string }): JSX.Element {
  return (
    <span class={`mark ${tone}`}>
      <span aria-hidden="true">{SIGNS[tone]}</span> {children}
    </span>
  );
}

export const RESULT_WORDS: Readonly<Record<Result, string>> = {
  done: 'done',
  refused: 'refused',
  reached: 'reached its page',
  blocked: 'blocked, as it must be',
  fault: 'fault: the promise is broken',
  leak: 'leak: reached what it must not',
  open: 'reached an unmapped page, its flush is still queued',
};

export const RESULT_TONES: Readonly<Record<Result, Tone>> = {
  done: 'plain',
  refused: 'warn',
  reached: 'good',
  blocked: 'good',
  fault: 'bad',
  leak: 'bad',
  open: 'warn',
};

export function ResultMark({ result }: { readonly result: Result }): JSX.Element {
  return <Mark tone={RESULT_TONES[result]}>{RESULT_WORDS[result]}</Mark>;
}
