/** Every relative link of the documentation leads to a file that exists, and to a heading that stands in it. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const documents = [
  'README.md',
  'DESIGN.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'bench/README.md',
  'traces/README.md',
  ...(existsSync(join(ROOT, 'docs')) ? readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }) : [])
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** Markdown without its code, which may hold brackets. */
function proseOf(markdown: string): string {
  return markdown.replaceAll(/^(`{3,})[^\n]*\n[\s\S]*?^\1`*$/gm, '').replaceAll(/`[^`\n]*`/g, '');
}

/** Targets of `[text](target)`, of images, and of `[label]: target`. */
function linksOf(markdown: string): string[] {
  const prose = proseOf(markdown);
  const inline = [...prose.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g)];
  const defined = [...prose.matchAll(/^\[[^\]]+\]:\s*<?([^\s>]+)/gm)];
  return [...inline, ...defined].map((match) => match[1] ?? '');
}

/** Anchors as GitHub makes them of headings: lower case, punctuation dropped, blanks to dashes, a number for repeated ones. */
function anchorsOf(markdown: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of markdown
    .replaceAll(/^(`{3,})[^\n]*\n[\s\S]*?^\1`*$/gm, '')
    .matchAll(/^#{1,6}\s+(.+)$/gm)) {
    const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').trim();
    const base = text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = base;
    for (let count = 1; anchors.has(anchor); count++) anchor = `${base}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What is wrong with the links of a document; `read` gives the text of a file, undefined for none, '' for a folder. */
function brokenLinks(name: string, read: (path: string) => string | undefined): string[] {
  return linksOf(read(name) ?? '').filter((link) => {
    if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return false;
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? name : join(dirname(name), decodeURI(path));
    const text = relative('', target).startsWith('..') ? undefined : read(target);
    return text === undefined || (anchor !== undefined && !anchorsOf(text).has(anchor));
  });
}

function fromRoot(path: string): string | undefined {
  const full = join(ROOT, path);
  if (!existsSync(full)) return undefined;
  return path.endsWith('.md') ? readFileSync(full, 'utf8') : '';
}

test.each(documents)('the links of %s', (name) => {
  expect(fromRoot(name), 'the document itself').toBeDefined();
  expect(brokenLinks(name, fromRoot)).toEqual([]);
});

describe('the check finds', () => {
  const other = '# One\n\n## Two: a `name`, twice\n\n## One\n\n```sh\n# no heading\n```\n';
  const check = (markdown: string): string[] =>
    brokenLinks('a.md', (path) => ({ 'a.md': markdown, 'docs/b.md': other })[path]);

  test.each([
    ['[x](docs/b.md)', []],
    ['[x](docs/c.md)', ['docs/c.md']],
    ['[x](docs/b.md#two-a-name-twice) [y](docs/b.md#one-1)', []],
    ['[x](docs/b.md#three)', ['docs/b.md#three']],
    ['[x](docs/b.md#no-heading)', ['docs/b.md#no-heading']],
    ['# Here\n[x](#here) [y](#there)', ['#there']],
    ['[x]: docs/c.md\n', ['docs/c.md']],
    ['![x](c.png)', ['c.png']],
    ['[x](https://example.org/nowhere)', []],
    ['`[x](docs/c.md)`\n```\n[x](docs/c.md)\n```\n', []],
    ['[x](../outside.md)', ['../outside.md']],
  ])('%j: %j', (markdown, broken) => {
    expect(check(markdown)).toEqual(broken);
  });
});
