#!/usr/bin/env node
import { existsSync } from 'node:fs';

const entry = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(entry)) {
  const { main } = await import(entry.href);
  // exitCode and not exit(): output that is still on its way to a pipe must arrive.
  process.exitCode = await main(process.argv);
} else {
  process.stderr.write('iommukit: this copy is not built; run npm start or npm run build first\n');
  process.exitCode = 2;
}
