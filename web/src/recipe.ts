// What a PNG says of how it was made: ours, and the one text that AUTOMATIC1111 began.

export interface Recipe {
  prompt: string;
  negative_prompt: string;
  seed?: number;
  steps?: number;
  guidance?: number;
}

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

function texts(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  if (!SIGNATURE.every((byte, at) => bytes[at] === byte)) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, Math.min(at + 8 + length, bytes.length));
    if (kind === "tEXt" || kind === "iTXt") {
      const end = body.indexOf(0);
      // iTXt: keyword, 0, packed?, method, language, 0, translated, 0, text
      let start = end + 1;
      if (kind === "iTXt") start = body.indexOf(0, body.indexOf(0, end + 3) + 1) + 1;
      const decoder = new TextDecoder(kind === "iTXt" ? "utf-8" : "latin1");
      found.set(decoder.decode(body.subarray(0, end)), decoder.decode(body.subarray(start)));
    }
    at += length + 12;
  }
  return found;
}

function number(text: string, name: string): number | undefined {
  const found = new RegExp(`${name}: ([\\d.]+)`).exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

function fromParameters(text: string): Recipe {
  const settings = text.lastIndexOf("\nSteps: ");
  const words = settings < 0 ? text : text.slice(0, settings);
  const [prompt = "", negative_prompt = ""] = words.split("\nNegative prompt: ");
  return {
    prompt,
    negative_prompt,
    seed: number(text, "Seed"),
    steps: number(text, "Steps"),
    guidance: number(text, "CFG scale"),
  };
}

interface Node {
  class_type?: string;
  inputs?: Record<string, unknown>;
}

/** ComfyUI keeps its graph: the sampler's numbers, and the words that its inputs lead to. */
function fromGraph(text: string): Recipe | null {
  const graph = JSON.parse(text) as Record<string, Node>;
  const sampler = Object.values(graph).find((node) => node.class_type?.startsWith("KSampler"));
  if (!sampler) return null;
  const inputs = sampler.inputs ?? {};
  const words = (name: string) => {
    const link = inputs[name];
    const said = Array.isArray(link) ? graph[String(link[0])]?.inputs?.["text"] : undefined;
    return typeof said === "string" ? said : "";
  };
  const value = (name: string) => (typeof inputs[name] === "number" ? Number(inputs[name]) : undefined);
  return {
    prompt: words("positive"),
    negative_prompt: words("negative"),
    seed: value("seed"),
    steps: value("steps"),
    guidance: value("cfg"),
  };
}

/** The recipe in a picture, or null where there is none. */
export async function recipeOf(file: Blob): Promise<Recipe | null> {
  try {
    const found = texts(new Uint8Array(await file.arrayBuffer()));
    const ours = found.get("diptych");
    if (ours) return JSON.parse(ours) as Recipe;
    const parameters = found.get("parameters");
    if (parameters) return fromParameters(parameters);
    const graph = found.get("prompt");
    return graph ? fromGraph(graph) : null;
  } catch {
    return null; // a broken text is no recipe
  }
}
