export * as amdvi from './amdvi.ts';
export * as vtd from './vtd.ts';
