package models

// The loops of an explanation: see explainer for the sums and grove for the nodes. Each is a function of its own so that all
// it needs stays in registers, and each does four points at a time.

// down carries P from the roots to the children of all nodes.
func (g *grove) down(b int, s *scratch) {
	p := &g.rule[b]
	for _, root := range g.roots {
		s.cells[root] = p.weight
	}
	for i := range g.runs {
		run := &g.runs[i]
		own, leans := s.cells[run.from:run.to], s.leans[run.from:run.to]
		switch run.kind {
		case isFork:
			forksDown(own, s.cells, leans, g.forks[run.at:], &p.t)
		case isSpur:
			spursDown(own, s.cells, leans, g.spurs[run.at:], &p.t)
		default:
			againDown(own, s.cells, leans, g.again[run.at:], g.ratios[b][run.at:])
		}
	}
}

// end replaces P by G at the stumps and adds their terms up.
func (g *grove) end(b int, dst []float64, s *scratch) {
	from := len(g.numeric) - len(g.stumps)
	fresh, to := from+g.fresh, len(g.numeric)
	freshStumps(dst, s.cells[from:fresh], s.leans[from:fresh], g.stumps, &g.rule[b].t)
	stumpsAgain(dst, s.cells[fresh:to], s.leans[fresh:to], g.stumps[g.fresh:], g.ratios[b][len(g.again):])
}

// up replaces P by G at all other nodes, children first, and adds their terms up.
func (g *grove) up(b int, dst []float64, s *scratch) {
	p := &g.rule[b]
	for _, end := range g.ends {
		s.cells[end.at] = all(end.leaf)
	}
	for i := len(g.runs) - 1; i >= 0; i-- {
		run := &g.runs[i]
		own, leans := s.cells[run.from:run.to], s.leans[run.from:run.to]
		switch run.kind {
		case isFork:
			forksUp(dst, own, s.cells, leans, g.forks[run.at:], &p.t)
		case isSpur:
			spursUp(dst, own, s.cells, leans, g.spurs[run.at:], &p.t)
		default:
			againUp(dst, own, s.cells, leans, g.again[run.at:], g.ratios[b][run.at:])
		}
	}
}

// deal is P of a node's children.
func deal(product, m float64) (left, right float64) {
	left = product * m
	return left, product - left
}

// join is a node's term at a point, without its lean, and its G.
func join(left, right, product, m float64) (term, mean float64) {
	difference := left - right
	return product * difference, right + m*difference
}

func forksDown(own, cells []block, leans []float64, forks []fork, t *block) {
	a, b, c, d := t.a, t.b, t.c, t.d
	leans, forks = leans[:len(own)], forks[:len(own)]
	for i := range own {
		here, f, lean := &own[i], &forks[i], leans[i]
		left, right := &cells[f.left], &cells[f.right]
		left.a, right.a = deal(here.a, f.share+a*lean)
		left.b, right.b = deal(here.b, f.share+b*lean)
		left.c, right.c = deal(here.c, f.share+c*lean)
		left.d, right.d = deal(here.d, f.share+d*lean)
	}
}

func forksUp(dst []float64, own, cells []block, leans []float64, forks []fork, t *block) {
	a, b, c, d := t.a, t.b, t.c, t.d
	leans, forks = leans[:len(own)], forks[:len(own)]
	for i := len(own) - 1; i >= 0; i-- {
		here, f, lean := &own[i], &forks[i], leans[i]
		left, right := &cells[f.left], &cells[f.right]
		var terms block
		terms.a, here.a = join(left.a, right.a, here.a, f.share+a*lean)
		terms.b, here.b = join(left.b, right.b, here.b, f.share+b*lean)
		terms.c, here.c = join(left.c, right.c, here.c, f.share+c*lean)
		terms.d, here.d = join(left.d, right.d, here.d, f.share+d*lean)
		dst[f.feature] += lean * ((terms.a + terms.b) + (terms.c + terms.d))
	}
}

func spursDown(own, cells []block, leans []float64, spurs []spur, t *block) {
	a, b, c, d := t.a, t.b, t.c, t.d
	leans, spurs = leans[:len(own)], spurs[:len(own)]
	for i := range own {
		here, s, lean := &own[i], &spurs[i], leans[i]
		left := &cells[s.left]
		left.a = here.a * (s.share + a*lean)
		left.b = here.b * (s.share + b*lean)
		left.c = here.c * (s.share + c*lean)
		left.d = here.d * (s.share + d*lean)
	}
}

func spursUp(dst []float64, own, cells []block, leans []float64, spurs []spur, t *block) {
	a, b, c, d := t.a, t.b, t.c, t.d
	leans, spurs = leans[:len(own)], spurs[:len(own)]
	for i := len(own) - 1; i >= 0; i-- {
		here, s, lean := &own[i], &spurs[i], leans[i]
		left := &cells[s.left]
		var terms block
		terms.a, here.a = join(left.a, s.leaf, here.a, s.share+a*lean)
		terms.b, here.b = join(left.b, s.leaf, here.b, s.share+b*lean)
		terms.c, here.c = join(left.c, s.leaf, here.c, s.share+c*lean)
		terms.d, here.d = join(left.d, s.leaf, here.d, s.share+d*lean)
		dst[s.feature] += lean * ((terms.a + terms.b) + (terms.c + terms.d))
	}
}

func againDown(own, cells []block, leans []float64, forks []fork, ratios []ratio) {
	leans, forks, ratios = leans[:len(own)], forks[:len(own)], ratios[:len(own)]
	for i := range own {
		here, f, lean, m := &own[i], &forks[i], leans[i], &ratios[i].m
		left, right := &cells[f.left], &cells[f.right]
		left.a, right.a = deal(here.a, f.share+m.a*lean)
		left.b, right.b = deal(here.b, f.share+m.b*lean)
		left.c, right.c = deal(here.c, f.share+m.c*lean)
		left.d, right.d = deal(here.d, f.share+m.d*lean)
	}
}

func againUp(dst []float64, own, cells []block, leans []float64, forks []fork, ratios []ratio) {
	leans, forks, ratios = leans[:len(own)], forks[:len(own)], ratios[:len(own)]
	for i := len(own) - 1; i >= 0; i-- {
		here, f, lean, r := &own[i], &forks[i], leans[i], &ratios[i]
		left, right := &cells[f.left], &cells[f.right]
		var terms block
		terms.a, here.a = join(left.a, right.a, here.a*r.term.a, f.share+r.m.a*lean)
		terms.b, here.b = join(left.b, right.b, here.b*r.term.b, f.share+r.m.b*lean)
		terms.c, here.c = join(left.c, right.c, here.c*r.term.c, f.share+r.m.c*lean)
		terms.d, here.d = join(left.d, right.d, here.d*r.term.d, f.share+r.m.d*lean)
		dst[f.feature] += lean * ((terms.a + terms.b) + (terms.c + terms.d))
	}
}

// freshStumps needs no share: G = G_right + m·difference = mean + t·lean·difference.
func freshStumps(dst []float64, own []block, leans []float64, stumps []stump, t *block) {
	a, b, c, d := t.a, t.b, t.c, t.d
	leans, stumps = leans[:len(own)], stumps[:len(own)]
	for i := range own {
		here, s := &own[i], &stumps[i]
		lean := leans[i] * s.difference
		dst[s.feature] += lean * ((here.a + here.b) + (here.c + here.d))
		here.a = s.mean + a*lean
		here.b = s.mean + b*lean
		here.c = s.mean + c*lean
		here.d = s.mean + d*lean
	}
}

func stumpsAgain(dst []float64, own []block, leans []float64, stumps []stump, ratios []ratio) {
	leans, stumps, ratios = leans[:len(own)], stumps[:len(own)], ratios[:len(own)]
	for i := range own {
		here, s, r := &own[i], &stumps[i], &ratios[i]
		lean := leans[i] * s.difference
		dst[s.feature] += lean * ((here.a*r.term.a + here.b*r.term.b) + (here.c*r.term.c + here.d*r.term.d))
		here.a = s.mean + r.m.a*lean
		here.b = s.mean + r.m.b*lean
		here.c = s.mean + r.m.c*lean
		here.d = s.mean + r.m.d*lean
	}
}
