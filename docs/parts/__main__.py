from docs.parts.generated import write

write()
