import type { OutgoingHttpHeaders } from "node:http";
import { request, type Server } from "node:https";

export type Answer = { status: number; reason: string; body: Record<string, unknown>; text: string };

export const tokenHeaders = (id: string, secret: string): OutgoingHttpHeaders => ({
  Authorization: `PVEAPIToken=${id}=${secret}`,
});

/** Sends requests to a server of this process: parameters as a form, or in the query where a body is not allowed. */
export function pveRequest(server: Server, headers: OutgoingHttpHeaders) {
  return (verb: string, path: string, params?: Record<string, unknown>): Promise<Answer> => {
    const form = formOf(params ?? {});
    const inBody = verb === "POST" || verb === "PUT";
    const query = !inBody && form !== "" && !path.includes("?") ? `?${form}` : "";
    const type = inBody ? { "Content-Type": "application/x-www-form-urlencoded" } : {};
    return sendRaw(server, verb, `/api2/json${path}${query}`, { ...type, ...headers }, inBody ? form : "");
  };
}

/** A list becomes the same key several times. */
export function formOf(params: Record<string, unknown>): string {
  const form = new URLSearchParams();
  for (const [key, value] of Object.entries(params))
    for (const one of Array.isArray(value) ? value : [value]) form.append(key, String(one));
  return form.toString();
}

export function sendRaw(
  server: Server,
  method: string,
  path: string,
  headers: OutgoingHttpHeaders,
  body: string | Uint8Array,
): Promise<Answer> {
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return new Promise((resolve, reject) => {
    const length = Buffer.byteLength(body);
    const sized = headers["Transfer-Encoding"] === undefined && length > 0 ? { "Content-Length": length } : {};
    const sent = request(
      {
        host: "127.0.0.1",
        port,
        method,
        path,
        rejectUnauthorized: false,
        headers: { ...headers, ...sized },
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const json = text.startsWith("{") ? (JSON.parse(text) as Record<string, unknown>) : {};
          resolve({ status: response.statusCode ?? 0, reason: response.statusMessage ?? "", body: json, text });
        });
      },
    );
    sent.on("error", reject);
    if (length > 0) sent.write(body);
    sent.end();
  });
}
