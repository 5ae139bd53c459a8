// Anser is released as a CommonJS module; this is the place where it puts itself.
globalThis.module = {};
