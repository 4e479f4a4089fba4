/** `npm run soak`: millions of calls, by scripts/soak.js, which sets the environment. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  cacheDir: '../../node_modules/.vite',
  test: {
    root: import.meta.dirname,
    include: ['*.soak.ts'],
    reporters: ['default'],
    disableConsoleIntercept: true,
    testTimeout: 24 * 3600 * 1000,
    // One after the other: figures of a run are its own.
    fileParallelism: false,
  },
});
