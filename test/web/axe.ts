/** What an accessibility checker says of a page: axe-core, injected by the debugger, so that the page's own policy stays in force. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const SOURCE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface AxeResults {
  readonly violations: readonly {
    readonly id: string;
    readonly impact: string | null;
    readonly help: string;
    readonly nodes: readonly { readonly html: string }[];
  }[];
  readonly passes: readonly unknown[];
}

/** Findings that are serious or worse, each with the first place. @throws Error when nothing was checked at all */
export async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(SOURCE);
  const results = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(options: object): Promise<AxeResults> } };
    return await axe.run({ resultTypes: ['violations'] });
  });
  if (results.passes.length < 10) throw new Error(`axe passed ${results.passes.length} rules only: is the page empty?`);
  return results.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(
      ({ id, help, nodes }) => `${id}: ${help} (${nodes.length} places, the first: ${nodes[0]?.html.slice(0, 200)})`,
    );
}
