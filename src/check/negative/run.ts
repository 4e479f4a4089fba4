/** Plays the drivers of a negative oracle before a judge. */
import type { Judge } from '../judge.ts';
import type { Outcome } from '../play.ts';
import { play } from '../play.ts';
import type { DriverFactory } from '../setup.ts';
import type { NegativeOracle } from './oracle.ts';

/** One of the two drivers on the oracle's hardware. */
export function playOracle({ scenario, hardware }: NegativeOracle, makeDriver: DriverFactory, judge: Judge): Outcome {
  return play(scenario, { arch: 'intel', caller: 'core', ...hardware, makeDriver }, judge);
}

/** Whether the broken driver breaks its contract and the fixed one breaks none. */
export function isCaught(oracle: NegativeOracle, makeJudge: () => Judge): boolean {
  const broken = playOracle(oracle, oracle.broken, makeJudge());
  if (!broken.findings.some(({ contract }) => contract === oracle.contract)) return false;
  return playOracle(oracle, oracle.fixed, makeJudge()).verdict === 'held';
}
