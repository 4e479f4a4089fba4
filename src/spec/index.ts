export * as vtd from './vtd.ts';
