/**
 * Figures for Prometheus, in its text format 0.0.4: what is counted as it happens, and what is looked up when asked.
 */

export type MetricKind = "counter" | "gauge";
export type Labels = Readonly<Record<string, string>>;

/** A figure that is there anyway, read when it is asked for. */
export type Reading = {
  readonly name: string;
  readonly kind: MetricKind;
  readonly help: string;
  readonly values: () => readonly { readonly labels?: Labels; readonly value: number }[];
};

/** Upper bounds of the answer times that are told apart, in seconds. */
const TOOK_BOUNDS = [0.005, 0.025, 0.1, 0.5, 2.5, 10] as const;

type Took = { readonly counts: number[]; sum: number; count: number };

/** What the API was asked, by operation and status: as many lines as there are operations, whoever asks. */
export class Metrics {
  readonly #requests = new Map<string, { readonly labels: Labels; count: number }>();
  readonly #took: Took = { counts: TOOK_BOUNDS.map(() => 0), sum: 0, count: 0 };
  readonly #readings: Reading[] = [];

  /** `route` is a path's pattern, never the path itself: its parameters are anybody's. */
  asked(method: string, route: string, status: number, tookMs: number): void {
    const key = `${method} ${route} ${status}`;
    const known = this.#requests.get(key);
    if (known !== undefined) known.count++;
    else this.#requests.set(key, { labels: { method, route, status: String(status) }, count: 1 });
    const seconds = tookMs / 1_000;
    this.#took.sum += seconds;
    this.#took.count++;
    for (const [i, bound] of TOOK_BOUNDS.entries())
      if (seconds <= bound) this.#took.counts[i] = (this.#took.counts[i] ?? 0) + 1;
  }

  read(reading: Reading): void {
    this.#readings.push(reading);
  }

  /** The page that Prometheus gets. */
  render(): string {
    const requests: Reading = {
      name: "exitnode_api_requests_total",
      kind: "counter",
      help: "Requests to the administration API, by operation and status.",
      values: () => [...this.#requests.values()].map(({ labels, count }) => ({ labels, value: count })),
    };
    return `${[...this.#readings, requests].map(renderReading).join("")}${renderTook(this.#took)}`;
  }
}

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

function renderReading({ name, kind, help, values }: Reading): string {
  const lines = values().map(({ labels, value }) => `${name}${renderLabels(labels)} ${value}\n`);
  return `${head(name, kind, help)}${lines.join("")}`;
}

function renderTook({ counts, sum, count }: Took): string {
  const name = "exitnode_api_request_seconds";
  const buckets = TOOK_BOUNDS.map((bound, i) => `${name}_bucket{le="${bound}"} ${counts[i] ?? 0}\n`);
  const rest = `${name}_bucket{le="+Inf"} ${count}\n${name}_sum ${sum}\n${name}_count ${count}\n`;
  return `${head(name, "histogram", "How long the administration API took to answer.")}${buckets.join("")}${rest}`;
}

const head = (name: string, kind: string, help: string): string => `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`;

function renderLabels(labels: Labels | undefined): string {
  if (labels === undefined) return "";
  const escaped = (text: string): string =>
    text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(",")}}`;
}
