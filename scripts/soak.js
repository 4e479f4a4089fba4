/**
 * Random programs of calls from all callers of the IOMMU (test/soak), for as long as wanted.
 * Usage: npm run soak -- --calls 5000000 --seed 1
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

function wholeNumber(text, name) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    console.error(`soak: --${name} wants a whole number of at least 1, got '${text}'`);
    process.exit(2);
  }
  return String(value);
}

let values;
try {
  ({ values } = parseArgs({ options: { calls: { type: 'string' }, seed: { type: 'string' } } }));
} catch (error) {
  console.error(`soak: ${error.message}. Known: --calls N (default 1000000), --seed N (default 1)`);
  process.exit(2);
}
const env = {
  ...process.env,
  IOMMUKIT_SOAK_CALLS: wholeNumber(values.calls ?? '1000000', 'calls'),
  IOMMUKIT_SOAK_SEED: wholeNumber(values.seed ?? '1', 'seed'),
};
const { status } = spawnSync('npx', ['vitest', 'run', '--config', 'test/soak/vitest.config.ts'], {
  stdio: 'inherit',
  env,
});
process.exit(status ?? 1);
