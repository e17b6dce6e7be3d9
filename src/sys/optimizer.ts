import { setFlagsFromString } from "node:v8";

/**
 * Lets V8's optimizing compiler run from here on, in a program that was started with --no-opt. What it is made of and
 * what it makes are 4 MB resident, which a daemon that is mostly idle can do without.
 */
export function startOptimizer(): void {
  setFlagsFromString("--opt");
}
