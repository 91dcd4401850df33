"""Write the generated documents."""

from generated.documents import documents

for path, text in documents().items():
    path.write_text(text, encoding="utf-8")
    print(f"written: {path.name}")
