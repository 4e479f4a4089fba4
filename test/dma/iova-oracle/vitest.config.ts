import { defineConfig } from 'vitest/config';

export default defineConfig({
  cacheDir: '../../../node_modules/.vite',
  test: { root: import.meta.dirname, include: ['*.oracle.ts'], reporters: ['default'], disableConsoleIntercept: true },
});
