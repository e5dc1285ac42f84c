package simulate

import (
	"cmp"
	"math"
	"slices"

	"vaglio"
)

// block is a run of customers with all that happened to them.
type block struct {
	customers  int
	events     []vaglio.Event
	truths     []truthRow
	lines      []byte // events as NDJSON, once encoded
	truthLines []byte
	fields     []vaglio.Field // spare room for entities and attributes
}

// block makes the customers [from, until).
func (p *plan) block(from, until int) *block {
	b := &block{customers: until - from, events: make([]vaglio.Event, 0, (until-from)*120)}
	for i := from; i < until; i++ {
		first := len(b.events)
		newCustomer(p, b, i).live()
		slices.SortStableFunc(b.events[first:], func(x, y vaglio.Event) int { return cmp.Compare(x.OccurredAt, y.OccurredAt) })
	}
	return b
}

// customer is one life in the making. Its events are emitted in any order and sorted at the end.
type customer struct {
	plan      *plan
	block     *block
	d         draw
	index     int
	role      *role // nil: none
	household int32 // 0: none
	id        string
	opened    vaglio.Instant
	ends      vaglio.Instant // of ordinary payments
	rate      float64        // payments per year
	scale     float64        // usual amount, minor units
	deposits  float64        // share of payments
	country   string
	currency  string
	channel   string
	address   string
	homeIP    string
	phones    []phone // in order of time
	laptop    string
	sources   []source
	payments  []*payment
	events    int
	requests  int
	things    int // devices, instruments and so on of the customer's own
}

type phone struct {
	from vaglio.Instant
	id   string
}

// source is an instrument with the rail on which it pays.
type source struct{ id, rail string }

var (
	countries = []choice{{"IT", 0.46}, {"DE", 0.15}, {"FR", 0.14}, {"ES", 0.1}, {"NL", 0.08}, {"AT", 0.04}, {"BE", 0.03}}
	rails     = []choice{{"card", 0.38}, {"sct_inst", 0.32}, {"open_banking", 0.14}, {"direct_debit", 0.1}, {"wallet", 0.06}}
	channels  = []choice{{"app", 0.62}, {"web", 0.38}}
	changes   = []choice{{"password", 0.6}, {"phone", 0.15}, {"email", 0.12}, {"second_factor", 0.13}}
	// hourWeights is when people are awake and paying.
	hourWeights = [24]float64{2, 1, .6, .4, .4, .6, 1.5, 3, 4.5, 5.5, 6, 6, 6.5, 6, 5.5, 5.5, 6, 6.5, 7, 7.5, 8, 7.5, 6, 4}
)

func newCustomer(p *plan, b *block, index int) *customer {
	c := &customer{plan: p, block: b, d: newDraw(p.config.Seed, uint64(index)), index: index,
		role: p.roles[int32(index)], household: p.households[int32(index)], id: p.ids.id("c_", index, 0)}
	k := knobs.base
	until := p.config.Until
	c.opened = p.start - c.d.span(0, hours(24*k.oldestDays))
	if c.role == nil && !c.d.chance(k.oldCustomers) {
		c.opened = c.awake(c.d.span(p.start, until))
	}
	c.ends = until
	if c.role == nil && c.d.chance(k.dormant) {
		c.ends = c.d.span(p.start, until)
	}
	c.rate = min(max(p.config.PaymentsPerYear*c.d.lognormal(math.Exp(-k.paymentsSigma*k.paymentsSigma/2), k.paymentsSigma), 1.5), 400)
	c.scale = c.d.lognormal(k.amountMedian, k.amountSigmaCustomer)
	c.deposits = min(max(k.deposits+0.3*c.d.NormFloat64(), 0.02), 0.98)
	c.country = c.d.pick(countries)
	c.currency = p.config.Currency
	if c.d.chance(p.config.ForeignShare) {
		c.currency = p.foreign[c.d.IntN(len(p.foreign))]
	}
	c.channel = c.d.pick(channels)
	c.address = c.own("a_")
	c.homeIP = p.ids.ip(index, c.things)
	if c.household != 0 {
		c.address = p.ids.id("a_", int(c.household), 0)
		c.homeIP = p.ids.ip(int(c.household), 0)
	}
	c.prepareRole()
	c.phones = []phone{{c.opened, c.own("d_")}}
	if c.d.chance(k.secondDevice) {
		c.laptop = c.own("d_")
	}
	if c.household != 0 && c.d.chance(0.7) {
		c.laptop = p.ids.id("d_", int(c.household), 0)
	}
	for range 1 + c.d.poisson(0.6) {
		c.newSource()
	}
	return c
}

// own is a new id of something that is the customer's alone.
func (c *customer) own(prefix string) string {
	c.things++
	return c.plan.ids.id(prefix, c.index, c.things)
}

func (c *customer) newSource() source {
	rail := c.d.pick(rails)
	c.things++
	s := source{c.plan.ids.instrument(rail, c.index, c.things), rail}
	c.sources = append(c.sources, s)
	return s
}

// live emits everything that ever happens to the customer.
func (c *customer) live() {
	c.emit("account_opened", c.opened, 0, c.entities("address", c.address, "customer", c.id, "device", c.phones[0].id, "ip", c.homeIP),
		c.attributes("channel", c.channel, "country", c.country))
	c.changeThings()
	gap := 365 * 24 / c.rate
	for t := max(c.opened, c.plan.start) + hours(c.d.ExpFloat64()*gap/2); t < c.ends; t += hours(c.d.ExpFloat64() * gap) {
		c.shop(c.awake(t))
	}
	if i, ok := c.plan.affected[int32(c.index)]; ok {
		c.outage(&c.plan.outages[i])
	}
	if c.role != nil && schemes[c.role.pattern] != nil {
		schemes[c.role.pattern](c)
	}
	for _, p := range c.payments {
		c.conclude(p)
	}
}

// changeThings lets phones, passwords and payouts change, and contacts happen, now and then without any request.
func (c *customer) changeThings() {
	k := knobs.base
	from, until := max(c.opened, c.plan.start), c.plan.config.Until
	years := float64(until-from) / float64(365*vaglio.Day)
	moments := func(perYear float64) []vaglio.Instant {
		at := make([]vaglio.Instant, c.d.poisson(perYear*years))
		for i := range at {
			at[i] = max(c.awake(c.d.span(from, until)), from)
		}
		slices.Sort(at)
		return at
	}
	for _, at := range moments(k.newPhonesPerYear) {
		c.newPhone(at)
		if c.d.chance(0.25) {
			c.changeCredentials(at+c.d.span(vaglio.Minute, 30*vaglio.Minute), c.deviceAt(at), c.homeIP)
		}
	}
	for _, at := range moments(k.credentialsPerYear) {
		c.changeCredentials(at, c.deviceAt(at), c.ipAt())
	}
	for _, at := range moments(k.payoutsPerYear) {
		c.addPayout(at, c.newSource().id, c.deviceAt(at), c.ipAt())
	}
	for _, at := range moments(k.contactsPerYear) {
		c.contact(at)
	}
}

func (c *customer) newPhone(at vaglio.Instant) string {
	id := c.own("d_")
	c.phones = append(c.phones, phone{at, id})
	slices.SortFunc(c.phones, func(a, b phone) int { return cmp.Compare(a.from, b.from) })
	c.login(at, id, c.ipAt())
	return id
}

// deviceAt is what the customer uses at that moment: the phone of the time, or the laptop.
func (c *customer) deviceAt(at vaglio.Instant) string {
	chance := 0.3
	if c.household != 0 {
		chance = 0.5
	}
	if c.laptop != "" && c.d.chance(chance) {
		return c.laptop
	}
	device := c.phones[0].id
	for _, p := range c.phones {
		if p.from <= at {
			device = p.id
		}
	}
	return device
}

func (c *customer) ipAt() string {
	if c.d.chance(knobs.base.mobileIP) {
		return c.plan.ids.ip(sharedOwner, c.d.IntN(c.plan.carriers)&0xffff)
	}
	return c.homeIP
}

// awake moves a moment to an hour of the same day at which people pay, never before the account or the history begins.
func (c *customer) awake(at vaglio.Instant) vaglio.Instant {
	x := c.d.Float64() * hourTotal
	for h, w := range hourWeights {
		if x -= w; x < 0 || h == 23 {
			at += vaglio.Instant(h)*vaglio.Hour - at%vaglio.Day + c.d.span(0, vaglio.Hour)
			break
		}
	}
	if first := max(c.opened, c.plan.start) + 10*vaglio.Minute; at < first {
		at = first + c.d.span(0, 3*vaglio.Hour)
	}
	return at
}

var hourTotal = func() (sum float64) {
	for _, w := range hourWeights {
		sum += w
	}
	return
}()

func (c *customer) login(at vaglio.Instant, device, ip string) {
	k := knobs.base
	at = max(at, c.opened+vaglio.Second)
	if c.d.chance(k.failedLogins) {
		c.failLogins(at, 1+c.d.poisson(0.5), device, ip)
	}
	c.emit("login", at, 0, c.entities("customer", c.id, "device", device, "ip", ip), c.attributes("channel", c.channel, "country", c.country))
	if c.d.chance(k.stepUps) {
		kind := "step_up_passed"
		if c.d.chance(0.1) {
			kind = "step_up_failed"
		}
		c.stepUp(kind, at+c.d.span(5*vaglio.Second, vaglio.Minute), device)
	}
}

// failLogins are n failures in the minutes before a moment.
func (c *customer) failLogins(before vaglio.Instant, n int, device, ip string) {
	for range n {
		c.emit("login_failed", max(before-c.d.span(5*vaglio.Second, 10*vaglio.Minute), c.opened+vaglio.Second), 0,
			c.entities("customer", c.id, "device", device, "ip", ip), c.attributes("channel", c.channel, "country", c.country))
	}
}

func (c *customer) stepUp(kind string, at vaglio.Instant, device string) {
	c.emit(kind, at, 0, c.entities("customer", c.id, "device", device), nil)
}

func (c *customer) changeCredentials(at vaglio.Instant, device, ip string) {
	c.emit("credentials_changed", at, 0, c.entities("customer", c.id, "device", device, "ip", ip), c.attributes("what", c.d.pick(changes)))
}

func (c *customer) addPayout(at vaglio.Instant, payout, device, ip string) {
	c.emit("payout_instrument_added", at, 0, c.entities("customer", c.id, "device", device, "ip", ip, "payout_instrument", payout), nil)
}

func (c *customer) contact(at vaglio.Instant) {
	c.emit("support_contact", max(at, c.opened+vaglio.Second), 0, c.entities("customer", c.id), c.attributes("channel", c.d.pick(contacts)))
}

var contacts = []choice{{"chat", 0.5}, {"phone", 0.3}, {"email", 0.2}}

// lateKinds may be observed minutes to hours after they happened.
var lateKinds = map[string]bool{"payment": true, "payment_settled": true, "payment_failed": true, "delivered": true,
	"spend": true, "withdrawal": true, "login": true, "login_failed": true, "support_contact": true}

// emit adds an event, unless it would happen after the end of the history.
func (c *customer) emit(kind string, at vaglio.Instant, amountMinor int64, entities, attributes vaglio.Fields) {
	until := c.plan.config.Until
	if at >= until {
		return
	}
	c.events++
	e := vaglio.Event{ID: c.plan.ids.id("", c.index, c.events), Kind: kind, OccurredAt: at, ObservedAt: at, Entities: entities, Attributes: attributes}
	if amountMinor > 0 {
		e.Amount, e.Currency = amountMinor, c.currency
	}
	if lateKinds[kind] && c.d.chance(c.plan.config.LateShare) {
		if observed := at + c.d.hours(spread{0.5, 0.03, 8}); observed < until {
			e.ObservedAt = observed
		}
	}
	c.block.events = append(c.block.events, e)
}

// entities are alternating names, in order, and values; empty values are left out.
func (c *customer) entities(namesAndValues ...string) vaglio.Fields {
	b := c.block
	if cap(b.fields)-len(b.fields) < len(namesAndValues)/2 {
		b.fields = make([]vaglio.Field, 0, 4096)
	}
	first := len(b.fields)
	for i := 0; i < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] != "" {
			b.fields = append(b.fields, vaglio.Field{Name: namesAndValues[i], Value: namesAndValues[i+1]})
		}
	}
	return vaglio.Fields(b.fields[first:len(b.fields):len(b.fields)])
}

// attributes is entities under the other name.
func (c *customer) attributes(namesAndValues ...string) vaglio.Fields {
	return c.entities(namesAndValues...)
}
