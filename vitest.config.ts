import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // One module graph per worker instead of one per file: the suite is many small files, and none keeps global state.
    isolate: false,
    pool: 'threads',
    // By default one less than cores: on two cores that is one, which waits for browsers and QEMU half of the time.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 120_000,
    reporters: ['default', './test/count-reporter.ts'],
  },
});
