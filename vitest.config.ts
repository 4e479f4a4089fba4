import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // One module graph per worker instead of one per file: the suite is many small files, and none keeps global state.
    isolate: false,
    pool: 'threads',
    testTimeout: 120_000,
    reporters: ['default', './test/count-reporter.ts'],
  },
});
