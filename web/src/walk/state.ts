/** What the walk view shows, and how it changes: every change is a new address, which the worker then plays. */
import type { Signal } from '@preact/signals';
import { effect, signal } from '@preact/signals';
import { formatState } from '../../../src/lab/index.ts';
import type { LabAction, LabConfig, LabState, StoryEnd } from '../../../src/lab/index.ts';
import { address, formatAddress, go } from '../address.ts';
import { engine } from '../engine/engine.ts';
import type { WalkAnswer } from './walk-jobs.ts';

/** The last link that could be played; null until there is one. */
export const shown: Signal<WalkAnswer | null> = signal(null);
/** What is wrong with the link, empty when nothing is. */
export const problem: Signal<string> = signal('');
export const story: Signal<readonly StoryEnd[]> = signal([]);

let asked = 0;
/** What was asked for last; null when that was no state. */
let latest: LabState | null = null;

async function play(params: URLSearchParams): Promise<void> {
  asked += 1;
  const mine = asked;
  try {
    const answer = await engine().run('walk', { link: [...params] });
    // Somebody may have gone on meanwhile.
    if (mine !== asked) return;
    problem.value = '';
    latest = answer.state;
    shown.value = answer;
  } catch (error) {
    if (mine !== asked) return;
    latest = null;
    shown.value = null;
    problem.value = error instanceof Error ? error.message : String(error);
  }
}

async function tellStory(): Promise<void> {
  try {
    story.value = await engine().run('story', {});
  } catch (error) {
    problem.value = error instanceof Error ? error.message : String(error);
  }
}

/** Follows the address. Called once, when the view is first shown. */
export function follow(): void {
  effect(() => {
    const { view, params } = address.value;
    if (view === 'walk') void play(params);
  });
  void tellStory();
}

export function paramsOf(state: LabState): URLSearchParams {
  return new URLSearchParams(formatState(state));
}

export function linkOf(state: LabState): string {
  return formatAddress('walk', paramsOf(state));
}

/**
 * Goes to the state that `change` makes of the one asked for last. That may not be played yet: what somebody does quickly builds on
 * what he did before, not on what the page still shows. @param replace for steps too small for the browser's history
 */
export function change(make: (state: LabState) => LabState, replace: boolean = false): void {
  if (latest === null) return;
  const state = make(latest);
  latest = state;
  go('walk', paramsOf(state), replace);
}

/** Does something after the shown step; what came after it is dropped. */
export function act(...more: readonly LabAction[]): void {
  change(({ program, step, ...rest }) => {
    const actions = [...program.actions.slice(0, step), ...more];
    return { ...rest, program: { ...program, actions }, step: actions.length };
  });
}

/** Goes to a step, as far as there are any. @param next of the step asked for last */
export function goTo(next: (step: number) => number): void {
  change((state) => ({ ...state, step: Math.max(0, Math.min(next(state.step), state.program.actions.length)) }), true);
}

/** The same actions on another machine. */
export function reconfigure(config: Partial<LabConfig>): void {
  change(({ program, ...rest }) => ({ ...rest, program: { ...program, config: { ...program.config, ...config } } }));
}
