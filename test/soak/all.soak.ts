/** As many calls as wanted, spread over all configurations; figures of each. */
import { test } from 'vitest';
import { SOAK_CONFIGS, soak } from './run.ts';

const calls = Number(process.env['IOMMUKIT_SOAK_CALLS'] ?? 1_000_000);
const firstSeed = Number(process.env['IOMMUKIT_SOAK_SEED'] ?? 1);
/** A machine lives for that many calls; the next one has another seed. */
const CALLS_PER_RUN = 250_000;

test.each(SOAK_CONFIGS.map(([name, config], index) => ({ name, config, index })))(
  '$name',
  ({ name, config, index }) => {
    const wanted = Math.ceil(calls / SOAK_CONFIGS.length);
    const sum = { calls: 0, refused: 0, out: 0, looks: 0, moves: 0 };
    const start = Date.now();
    for (let seed = firstSeed; sum.calls < wanted; seed++) {
      try {
        const figures = soak(config, seed * 100 + index, Math.min(CALLS_PER_RUN, wanted - sum.calls));
        sum.calls += figures.nrCalls;
        sum.refused += figures.nrRefused;
        sum.out += figures.nrOut;
        sum.looks += figures.nrLooks;
        sum.moves += figures.nrMoves;
      } catch (error) {
        throw new Error(
          `${name}, seed ${seed} (${seed * 100 + index}): ${error instanceof Error ? error.message : String(error)}`,
          {
            cause: error,
          },
        );
      }
    }
    const seconds = ((Date.now() - start) / 1000).toFixed(0);
    console.log(
      `${name}: ${sum.calls} calls (${sum.refused} refused as they must be, ${sum.out} out of memory, ${sum.moves} moves of groups), ` +
        `${sum.looks} device accesses, ${seconds} s`,
    );
  },
);
