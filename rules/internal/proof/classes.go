package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Class is a set of inputs with the same label: on each axis some of the values, or all.
type Class struct {
	Label  string
	values [][]int // by axis; nil: all
}

// has reports whether an input is in the class. at is its value on each axis.
func (c *Class) has(at []int) bool {
	for d, values := range c.values {
		if values != nil && !slices.Contains(values, at[d]) {
			return false
		}
	}
	return true
}

// classes groups the inputs of a domain by label into few classes, by building a decision diagram: values of an axis
// that lead to the same result share a branch, and an axis on which nothing differs disappears.
type classes struct {
	domain *Domain
	label  func(in *policy.Input) string
	ids    map[string]int
	nodes  []node
}

// node is a leaf with a label, or an axis with branches.
type node struct {
	label    string
	axis     int // -1: a leaf
	branches []branch
}

type branch struct {
	values []int
	to     int
}

// maxClasses bounds the classes before they are merged. Nobody reads more.
const maxClasses = 2000

// Gather groups the inputs of a domain by label. It leaves out inputs with an empty label. complete is false if there
// are too many classes.
func Gather(dom *Domain, label func(in *policy.Input) string) (out []Class, complete bool) {
	c := &classes{domain: dom, label: label, ids: map[string]int{}}
	root := c.build(0)
	c.paths(root, make([][]int, len(dom.axes)), &out)
	return c.join(out), len(out) < maxClasses
}

func (c *classes) build(axis int) int {
	if axis == len(c.domain.axes) {
		c.domain.settle()
		label := c.label(&c.domain.in)
		return c.intern("= "+label, node{label: label, axis: -1})
	}
	var n node
	n.axis = axis
	for i, v := range c.domain.axes[axis].values {
		v.put(c.domain)
		to := c.build(axis + 1)
		at := slices.IndexFunc(n.branches, func(b branch) bool { return b.to == to })
		if at < 0 {
			n.branches = append(n.branches, branch{to: to})
			at = len(n.branches) - 1
		}
		n.branches[at].values = append(n.branches[at].values, i)
	}
	if len(n.branches) == 1 {
		return n.branches[0].to
	}
	return c.intern(fmt.Sprint(axis, n.branches), n)
}

func (c *classes) intern(key string, n node) int {
	if id, known := c.ids[key]; known {
		return id
	}
	c.nodes = append(c.nodes, n)
	c.ids[key] = len(c.nodes) - 1
	return len(c.nodes) - 1
}

func (c *classes) paths(id int, values [][]int, out *[]Class) {
	n := c.nodes[id]
	if n.axis < 0 {
		if n.label != "" && len(*out) < maxClasses {
			*out = append(*out, Class{n.label, slices.Clone(values)})
		}
		return
	}
	for _, b := range n.branches {
		values[n.axis] = b.values
		c.paths(b.to, values, out)
	}
	values[n.axis] = nil
}

// join merges classes that differ on one axis only, until there are none.
func (c *classes) join(in []Class) []Class {
	for again := true; again; {
		again = false
		for d := range c.domain.axes {
			groups, order := map[string]int{}, []Class{}
			for _, one := range in {
				rest := slices.Clone(one.values)
				rest[d] = []int{}
				key := one.Label + fmt.Sprint(rest, one.values[d] == nil)
				at, known := groups[key]
				if !known {
					groups[key] = len(order)
					order = append(order, one)
					continue
				}
				again = true
				order[at].values = slices.Clone(order[at].values)
				merged := append(slices.Clone(order[at].values[d]), one.values[d]...)
				slices.Sort(merged)
				if merged = slices.Compact(merged); len(merged) == len(c.domain.axes[d].values) {
					merged = nil
				}
				order[at].values[d] = merged
			}
			in = order
		}
	}
	return in
}

// Describe returns what the inputs of a class have in common.
func (dom *Domain) Describe(c Class) string {
	var parts []string
	for d, values := range c.values {
		if values != nil {
			parts = append(parts, dom.axes[d].describe(values))
		}
	}
	if parts == nil {
		return "always"
	}
	return strings.Join(parts, ", ")
}

// Count returns the number of distinguishable inputs in a class.
func (dom *Domain) Count(c Class) int {
	n := 1
	for d, values := range c.values {
		if values == nil {
			n *= len(dom.axes[d].values)
		} else {
			n *= len(values)
		}
	}
	return n
}

// Example returns the first input of a class.
func (dom *Domain) Example(c Class) *policy.Input {
	for d, values := range c.values {
		i := 0
		if values != nil {
			i = values[0]
		}
		dom.axes[d].values[i].put(dom)
	}
	dom.settle()
	in := dom.in
	for f, labels := range dom.labels { // which the next input changes
		f.SetTexts(&in, slices.Clone(labels))
	}
	return &in
}
