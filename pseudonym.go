package vaglio

import "slices"

// Pseudonyms are the new names of entities that are to be forgotten.
type Pseudonyms map[Entity]string

// of is the new name of what stands in a field of entities.
func (p Pseudonyms) of(f Field) (string, bool) {
	if f.Name == EntityPayoutInstrument {
		f.Name = EntityInstrument
	}
	name, ok := p[Entity{f.Name, f.Value}]
	return name, ok
}

// Entities renames what stands in a map of entities. The original stays as it is.
func (p Pseudonyms) Entities(fs Fields) Fields {
	fs = slices.Clone(fs)
	for i := range fs {
		if name, ok := p.of(fs[i]); ok {
			fs[i].Value = name
		}
	}
	return fs
}

// Attributes renames values of attributes that are the name of one of the entities. The original stays as it is.
func (p Pseudonyms) Attributes(fs Fields) Fields {
	fs = slices.Clone(fs)
	for i := range fs {
		for e, name := range p {
			if fs[i].Value == e.ID {
				fs[i].Value = name
			}
		}
	}
	return fs
}

// Event renames what stands in an event.
func (p Pseudonyms) Event(e *Event) {
	e.Entities, e.Attributes = p.Entities(e.Entities), p.Attributes(e.Attributes)
}
