// A reporter of the test runner: which files took longest, from the start of each one's process to its end.
const SHOWN = 10;

export default async function* longest(events) {
  const from = new Map();
  const files = [];
  for await (const { type, data } of events) {
    // A file is a test of its own name to the runner.
    if (data?.file === undefined || data.name !== data.file) continue;
    if (type === "test:dequeue") from.set(data.file, performance.now());
    if (type === "test:complete") files.push({ path: data.file, ms: performance.now() - from.get(data.file) });
  }
  files.sort((left, right) => right.ms - left.ms);
  for (const { path, ms } of files.slice(0, SHOWN))
    yield `# ${(ms / 1_000).toFixed(1)} s ${path.replace(/^.*\/test\//, "test/").replace(/\.js$/, ".ts")}\n`;
}
