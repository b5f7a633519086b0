// Grafana's own transformations: {frames, transformations} come in as JSON, frames go out.
// node transform.cjs FOLDER, where FOLDER/node_modules has @grafana/data.
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const need = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const grafana = need("@grafana/data");
const { lastValueFrom } = need("rxjs");

// Only now: with a window, its parts would ask for a document too.
globalThis.window = {};

const byId = new Map(Object.values(grafana.standardTransformers).map((each) => [each.id, each]));
grafana.standardTransformersRegistry.setInit(() =>
  [...byId.values()].map((each) => ({ id: each.id, name: each.name, transformation: async () => each })),
);

async function main() {
  const { frames, transformations } = JSON.parse(fs.readFileSync(0, "utf8"));
  for (const { id } of transformations) {
    if (!byId.has(id)) {
      throw new Error(`${id} is not one of Grafana's transformations`);
    }
  }
  const data = frames.map((frame) => grafana.toDataFrame(frame));
  const result = await lastValueFrom(grafana.transformDataFrame(transformations, data));
  const shown = result.map((frame) =>
    frame.fields.map((field) => ({
      name: grafana.getFieldDisplayName(field, frame, result),
      type: field.type,
      values: Array.from(field.values),
    })),
  );
  process.stdout.write(JSON.stringify(shown));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
