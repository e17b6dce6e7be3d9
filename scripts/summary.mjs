// A reporter of the test runner, for the end of a long run: which files took longest, from the start of each one's process
// to its end, and each test that failed, with its error. One that failed only because of a test inside it is left out.
import { inspect } from "node:util";

const LONGEST = 10;
const ERROR_LINES = 40;
const OUTPUT_LINES = 20;

/** As it is called in the repository. */
const source = (path) => path.replace(/^.*\/test\//, "test/").replace(/\.js$/, ".ts");
const last = (text) => text.split("\n").slice(-OUTPUT_LINES).join("\n");

export default async function* summary(events) {
  const from = new Map();
  const files = [];
  const failed = [];
  /** By file, the end of what its process said: all there is to tell when the process itself fails. */
  const output = new Map();
  for await (const { type, data } of events) {
    if (type === "test:stderr") output.set(data.file, last(`${output.get(data.file) ?? ""}${data.message}`));
    if (type === "test:fail" && data.todo === undefined && data.details.error.failureType !== "subtestsFailed")
      failed.push(data);
    // A file is a test of its own name to the runner.
    if (data?.file === undefined || data.name !== data.file) continue;
    if (type === "test:dequeue") from.set(data.file, performance.now());
    if (type === "test:complete") files.push({ path: data.file, ms: performance.now() - from.get(data.file) });
  }
  files.sort((left, right) => right.ms - left.ms);
  for (const { path, ms } of files.slice(0, LONGEST)) yield `# ${(ms / 1_000).toFixed(1)} s ${source(path)}\n`;
  for (const { file, name, details } of failed) {
    const itself = name === file;
    const told = inspect(details.error.cause ?? details.error, { depth: 4 });
    const lines = told.split("\n").slice(0, ERROR_LINES);
    if (itself) lines.push(...(output.get(file) ?? "").split("\n"));
    yield `# failed: ${source(file)}: ${itself ? "its process" : name}\n`;
    yield lines.map((line) => `#   ${line}\n`).join("");
  }
}
